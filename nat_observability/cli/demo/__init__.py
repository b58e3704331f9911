"""The demonstration: a small real workflow over a folder of text files."""
