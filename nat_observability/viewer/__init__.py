"""The viewer: a local web page over the embedded store, and the server that gives it."""

from nat_observability.viewer.serving import serve, viewer_url

__all__ = ["serve", "viewer_url"]
