"""The spool: the durable queue on disk."""
