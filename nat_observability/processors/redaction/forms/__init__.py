"""Forms of code, tools and documents in which the name of a field stands near its value."""
