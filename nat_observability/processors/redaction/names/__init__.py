"""Names of fields: which are secret, and where they stand in a text."""
