"""A shop: three levels of containers, HTTP, streams, websockets, background tasks, a worker, tenants, calls to others."""
