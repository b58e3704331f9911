"""proxy_arguments(): the proxy through which an endpoint is reached, from HTTPS_PROXY, HTTP_PROXY and NO_PROXY."""

from __future__ import annotations

import base64
import ipaddress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from nat_observability.errors import SinkError
from nat_observability.sinks.otlp.options import parse_endpoint


def proxy_arguments(url: str) -> dict[str, Any]:
    """
    Return what a request of aiohttp needs for the proxy, with its credentials; empty without a proxy.

    By hand, because aiohttp would also read .netrc, for every request and on a new thread each time.

    Raises:
        SinkError: The proxy's address is not one.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    address = proxies.get(parts.scheme)
    if not address or proxy_bypass(parts.netloc) or _is_exempt(parts, proxies.get("no", "")):
        return {}
    scheme, _, rest = address.rpartition("://")
    credentials, _, host = rest.rpartition("@")
    variable = f"{parts.scheme.upper()}_PROXY"
    try:
        proxy = parse_endpoint(f"{scheme or 'http'}://{host}", variable)
    except ValueError as error:
        raise SinkError(variable, str(error), "Correct it, or name this host in NO_PROXY.") from None
    if not credentials:
        return {"proxy": proxy.geturl()}
    # The client sends it on as proxy-authorization, to the proxy alone.
    basic = base64.b64encode(unquote(credentials).encode()).decode()
    return {"proxy": proxy.geturl(), "proxy_headers": {"authorization": f"Basic {basic}"}}


def _is_exempt(parts: SplitResult, no_proxy: str) -> bool:
    """
    Whether NO_PROXY names an endpoint by one of the forms that Python's own rule lacks.

    Those are networks (`10.0.0.0/8`, `fd00::/8`), IPv6 addresses with and without brackets, in any notation, and `*`
    or `*.example.org` within a list, as curl and Go's net/http read them.
    """
    host = (parts.hostname or "").rstrip(".")
    address = _address(host)
    for entry in filter(None, map(str.strip, no_proxy.lower().split(","))):
        name, port = _without_port(entry)
        if port is not None and port != (parts.port or {"http": 80, "https": 443}.get(parts.scheme)):
            continue
        if name == "*":
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(name, strict=False):
                    return True
            except ValueError:
                continue
        else:
            suffix = name.removeprefix("*").strip(".")
            if suffix and (host == suffix or host.endswith(f".{suffix}")):
                return True
    return False


def _without_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isdecimal() else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
