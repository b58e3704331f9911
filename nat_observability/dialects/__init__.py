"""Vocabularies of attribute names: spans in the words of a convention, and the other way round."""
