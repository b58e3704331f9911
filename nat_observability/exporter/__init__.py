"""Exporters: what takes part in a run."""
