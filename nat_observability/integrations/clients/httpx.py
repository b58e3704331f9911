"""httpx: what is requested inside a run carries the run's headers."""

from __future__ import annotations

import httpx

from nat_observability.integrations.shared.headers import write_headers
from nat_observability.integrations.shared.instrumented_argument import check_instrumented

__all__ = ["add_headers", "add_headers_async", "instrument"]


def add_headers(request: httpx.Request) -> None:
    """
    Put the current run's headers into a request, redirected ones included; outside a run nothing happens.

    An event hook: `httpx.Client(event_hooks={"request": [add_headers]})`.
    """
    write_headers(request.headers)


async def add_headers_async(request: httpx.Request) -> None:
    """
    Do as `add_headers`, for `httpx.AsyncClient`.

    An event hook: `httpx.AsyncClient(event_hooks={"request": [add_headers_async]})`.
    """
    write_headers(request.headers)


def instrument(client: httpx.Client | httpx.AsyncClient) -> None:
    """Give a client that hook, after its own. A second call changes nothing."""
    check_instrumented(client, "an httpx.Client or httpx.AsyncClient", "event_hooks")
    hook = add_headers_async if isinstance(client, httpx.AsyncClient) else add_headers
    hooks = client.event_hooks
    if hook not in hooks["request"]:
        client.event_hooks = {**hooks, "request": [*hooks["request"], hook]}
