"""Recording: steps, and their values as they are at that moment."""
