"""What keeps other pages, other programs and the recorded text itself away from a viewer's data."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "clipboard-read=(), camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def new_token() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(32)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Gate:
    """
    Lets requests of this viewer's own page through.

    A page of another site can make a browser send requests here, and a name that it controls can lead here (DNS
    rebinding): the token, which no cookie carries, the Host and Sec-Fetch-Site keep both out.

    Args:
        token: What requests below /api/ have to carry in the header Authorization.
        host: Where the server listens. Beyond loopback, requests may name it, an address, or this machine.
    """

    def __init__(self, token: str, host: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self._beyond = not is_loopback(host)
        self._names = {"localhost"}
        if self._beyond:
            self._names |= {host.lower(), socket.gethostname().lower()}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer what is not allowed, and add the headers that every answer has."""
        refusal = self._refusal(request)
        if refusal is not None:
            response: web.StreamResponse = refusal
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = problem(error.status, error.text or error.reason)
        if not response.prepared:
            add_headers(response)
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        if not self._knows(request.headers.get(hdrs.HOST, "")):
            return problem(
                421, "This host name is not the viewer's: open the address that the command printed."
            )
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return problem(403, "Another site's page asked. Open the address that the command printed.")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            refused = problem(405, "The viewer only reads.")
            refused.headers[hdrs.ALLOW] = "GET, HEAD"
            return refused
        if not request.path.startswith("/api/"):
            return None
        given = request.headers.get(hdrs.AUTHORIZATION, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            return problem(
                401, "The token is missing or not this viewer's: open the address that the command printed."
            )
        return None

    def _knows(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdigit():
            name = host
        name = name.strip("[]").lower()
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # No name was looked up for an address: beyond loopback, any of this machine's will do.
        return address.is_loopback or self._beyond


def add_headers(response: web.StreamResponse) -> None:
    """Add to a response the headers that every answer has."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def problem(status: int, message: str) -> web.Response:
    """Return an answer that says what is wrong."""
    return web.json_response({"error": message}, status=status)
