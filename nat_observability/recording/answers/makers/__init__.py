"""Readers of what the makers of models and of their clients answer, one module for each family of shapes."""
