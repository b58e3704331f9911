"""The delivery: from an exporter to a back end."""
