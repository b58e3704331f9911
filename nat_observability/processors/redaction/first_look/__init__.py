"""The first look at a text: everything that could be secret, in one pass."""
