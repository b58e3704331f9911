"""The tables of redaction: which tokens and names are secret, as data."""
