"""requests: what is requested inside a run carries the run's headers."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import BaseAdapter

from nat_observability.integrations.shared.headers import write_headers
from nat_observability.integrations.shared.instrumented_argument import check_instrumented

__all__ = ["PropagatingAdapter", "instrument"]


class PropagatingAdapter(BaseAdapter):
    """
    Puts the current run's headers into each request that another adapter sends, redirected ones included.

    `session.mount("https://", PropagatingAdapter(HTTPAdapter(max_retries=3)))`. Outside a run nothing happens.
    """

    def __init__(self, inner: BaseAdapter) -> None:
        super().__init__()
        self.inner = inner

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request with the run's headers."""
        # A copy: the caller may send the same request again, in another run.
        request = request.copy()
        write_headers(request.headers)
        return self.inner.send(request, *args, **kwargs)

    def close(self) -> None:
        """Close the other adapter."""
        self.inner.close()


def instrument(session: requests.Session) -> None:
    """Have every adapter of a session do so. Those that are mounted later do not; a second call changes nothing."""
    check_instrumented(session, "a requests.Session", "adapters", "mount")
    for prefix, adapter in list(session.adapters.items()):
        if not isinstance(adapter, PropagatingAdapter):
            session.adapters[prefix] = PropagatingAdapter(adapter)
