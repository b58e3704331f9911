"""One run of a workflow, from the start of its exporters to their stop."""
