"""Vocabularies of attribute names: what a span is in the words of a convention, and the other way round."""
