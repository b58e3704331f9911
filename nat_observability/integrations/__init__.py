"""Integrations: one file for each framework; each imports its own framework and no other."""
