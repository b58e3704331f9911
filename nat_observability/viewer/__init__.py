"""The viewer: a local web page over the embedded store, and the server that gives it."""
