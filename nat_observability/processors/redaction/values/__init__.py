"""The values of secret names: where they begin and end, and which are not secret."""
