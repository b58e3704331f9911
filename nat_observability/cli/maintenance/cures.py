"""What to do about an exporter that cannot deliver, by what its back end or the system says."""

from __future__ import annotations

import re

from nat_observability.settings.variables import variable

_CURES: tuple[tuple[str, str], ...] = (
    (
        r"certificate.?verify.?failed|self.?signed|unable to get (local )?issuer|hostname mismatch|certificate has",
        "Its certificate is not trusted: set {ca_file} to the certificate of its authority, or correct the host name "
        "in {endpoint}.",
    ),
    (
        r"name or service not known|name resolution|nodename nor servname|getaddrinfo|no address associated|"
        r"dns resolution|dns server|domain name not found",
        "The host name is unknown: check it in {endpoint}, and the name server of this machine.",
    ),
    (
        r"wrong.version.number|record layer|\[ssl\b|ssl_error|tlsv1|handshake|bad status line|no valid answer|"
        r"http1\.x server|parsing http/2",
        "It does not speak what the endpoint says: check http or https, the protocol, and the port, in {endpoint}.",
    ),
    (
        r"\b(401|403)\b|unauthori[sz]ed|forbidden|unauthenticated|permission.?denied",
        "It refuses the key: check {key}.",
    ),
    (
        r"\b404\b|not found|unimplemented|\b405\b|web page",
        "Nothing takes spans there: check the path of {endpoint}.",
    ),
    (
        r"answered (429|5\d\d)|resource.?exhausted|\binternal\b",
        "It is there, but fails by itself or is too busy: look into its log, or try again later.",
    ),
    (
        r"answered 4\d\d|invalid.?argument",
        "It refuses what it is sent: check the protocol, the path and the limits that it wants, in {endpoint}.",
    ),
    (
        r"reset|closed without an answer|server disconnected",
        "It ends the connection without an answer: check http or https, and the port, in {endpoint}.",
    ),
    (
        r"refused|connect call failed|unreachable|unavailable|cannot connect",
        "Nothing answers there: check host and port in {endpoint}, and that the back end runs.",
    ),
    (
        r"no answer|timed? ?out|deadline",
        "It does not answer in time: check {endpoint}, proxies and firewalls.",
    ),
)

_KEYS = {"langfuse": "{public_key} and {secret_key}", "phoenix": "{api_key}"}
_PATHS = ("sqlite", "file")
_DISK = r"cannot be|permission|read-only|not a directory|is a directory|not a file|unable to open"


def cure(name: str, kind: str, problem: str) -> str | None:
    """
    Return one sentence that says what to do, None if the problem itself says all.

    Args:
        name: The exporter's.
        kind: Its type.
        problem: What was said.
    """
    settings = {
        key: variable("exporters", name, key)
        for key in ("ca_file", "endpoint", "headers", "path", "api_key", "public_key", "secret_key")
    }
    lowered = problem.lower()
    if kind in _PATHS:
        return f"The path is that of {settings['path']}." if re.search(_DISK, lowered) else None
    if "pip install" in lowered:
        return None
    for pattern, sentence in _CURES:
        if re.search(pattern, lowered):
            return sentence.replace("{key}", _KEYS.get(kind, "{headers}")).format(**settings)
    return None
