"""A shop: three levels of containers, HTTP, streams, websockets, a worker, tenants, calls to others."""
