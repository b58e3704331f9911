"""The stages between a run and its deliveries: processors, and the buffer of tail sampling."""
