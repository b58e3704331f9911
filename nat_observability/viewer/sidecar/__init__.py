"""The sidecar: a file beside a store with what search, statistics and the list's counts need."""
