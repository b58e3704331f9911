"""The version of the package, which the distribution takes from here too."""

__version__ = "0.1.0"
