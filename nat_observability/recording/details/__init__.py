"""Details: what a step has beside its input and output: attributes, events, links and a status."""
