"""Text as it is searched: without escapes, as it looks, in windows and in runs."""
