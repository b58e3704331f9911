"""What a request's method is called in names and attributes: bounded, whatever a caller invents."""

from __future__ import annotations

# RFC 9110, PATCH of RFC 5789 and QUERY: those that the OpenTelemetry HTTP conventions know (1.38). A websocket has none
# that matters.
_KNOWN = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE", "WEBSOCKET")
)
_NAME = {method: method for method in _KNOWN}
_ATTRIBUTES = {method: {"http.request.method": method} for method in _KNOWN}
_MAX_ORIGINAL = 64  # characters


def method_name(method: str) -> str:
    """Return what a step's name begins with: the method, or `HTTP` for one that the conventions do not know."""
    return _NAME.get(method, "HTTP")


def method_attributes(method: str) -> dict[str, str]:
    """Return the attributes that say it: `_OTHER` and the method itself, if the conventions do not know it."""
    known = _ATTRIBUTES.get(method)
    if known is not None:
        return known
    return {"http.request.method": "_OTHER", "http.request.method_original": method[:_MAX_ORIGINAL]}
