"""A service with containers of its own that embeds ObservabilityContainer."""
