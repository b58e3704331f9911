"""What to do about an exporter that cannot deliver, by what its back end or the system says."""

from __future__ import annotations

import re

from nat_observability.settings.variables import variable

_CURES: tuple[tuple[str, str], ...] = (
    (
        r"certificate.?verify.?failed|self.?signed|unable to get (local )?issuer|hostname mismatch|certificate has expired",
        "Its certificate is not trusted: set {ca_file} to the certificate of its authority, or correct the host name.",
    ),
    (
        r"wrong.version.number|record layer|ssl|tls|bad status line|no valid answer",
        "It does not speak what the endpoint says: check http or https, and the port, in {endpoint}.",
    ),
    (
        r"name or service not known|name resolution|nodename nor servname|getaddrinfo|no address associated|"
        r"dns resolution|domain name not found|cannot connect to host .*(gaierror|-[235]\b)",
        "The host name is unknown: check it in {endpoint}, and the name server of this machine.",
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
        r"refused|connect call failed|unreachable|unavailable|cannot connect|reset|closed without an answer",
        "Nothing answers there: check host and port in {endpoint}, and that the back end runs.",
    ),
    (
        r"did not answer|timed? ?out|deadline",
        "It does not answer in time: check {endpoint}, proxies and firewalls.",
    ),
    (
        r"no space left|disk is full|database or disk is full|disk full",
        "The disk is full: make room, or set {path}.",
    ),
    (
        r"permission denied|read-only|unable to open|not a directory|is a directory|cannot be (opened|written)",
        "Set {path} to a path that this user can write.",
    ),
)

_LOCAL = ("sqlite", "file", "console", "memory")
_KEYS = {"langfuse": "{public_key} and {secret_key}", "phoenix": "{api_key}"}


def cure(name: str, kind: str, problem: str) -> str | None:
    """
    Return one sentence that says what to do.

    Args:
        name: The exporter's.
        kind: Its type.
        problem: What was said.
    """
    lowered = problem.lower()
    for pattern, sentence in _CURES:
        # A file is not refused by a network, nor an endpoint by a disk.
        if (kind in _LOCAL) != ("{path}" in sentence):
            continue
        if re.search(pattern, lowered):
            sentence = sentence.replace("{key}", _KEYS.get(kind, "{headers}"))
            keys = ("ca_file", "endpoint", "headers", "path", "api_key", "public_key", "secret_key")
            return sentence.format(**{key: variable("exporters", name, key) for key in keys})
    return None
