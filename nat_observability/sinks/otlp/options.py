"""The options of both OTLP sinks: address, headers and TLS; all checked before anything is sent."""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, unquote_plus, urlsplit

from pydantic import SecretStr

from nat_observability.errors import SinkError
from nat_observability.validation import is_header_name, is_header_value, secret_text, url_problem

Headers = Mapping[str, SecretStr | str]
FileName = str | os.PathLike[str]

TRACES_PATH = "/v1/traces"

_SHORTEST_SECRET = 6


def parse_endpoint(endpoint: str, name: str = "endpoint") -> SplitResult:
    """
    Return the parts of a URL that a sink can send to.

    Raises:
        ValueError: The text is not such a URL, or holds credentials. The message shows neither those nor the query.
    """
    if problem := url_problem(endpoint):
        shown = "what was given" if "@" in endpoint or "?" in endpoint else repr(endpoint)
        raise ValueError(f"{name} is a URL such as 'https://collector.example:4318': {shown} {problem}.")
    return urlsplit(endpoint)


def traces_url(endpoint: str, traces_endpoint: str | None) -> str:
    """
    Return the URL that spans are posted to, by the rules of the OTLP exporter specification.

    A `traces_endpoint` is taken as it is, and wins. `v1/traces` is added to an `endpoint`, which serves every signal,
    unless it already ends in that: the specification would add it twice, which is never meant.

    Raises:
        ValueError: It is not a URL.
    """
    if traces_endpoint is not None:
        return parse_endpoint(traces_endpoint, "traces_endpoint")._replace(fragment="").geturl()
    parts = parse_endpoint(endpoint)
    path = parts.path.rstrip("/")
    if not path.endswith(TRACES_PATH):
        path += TRACES_PATH
    return parts._replace(path=path, fragment="").geturl()


def shown_url(url: str) -> str:
    """Return a URL for logs and errors: without its query, which may hold a key."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def check_timeout(timeout: float) -> float:
    """Return `timeout`, which has to be a positive number of seconds."""
    if not isinstance(cast(object, timeout), int | float) or not 0 < timeout < float("inf"):
        raise ValueError(
            f"timeout is a positive, finite number of seconds, not {timeout!r}. The default is 10."
        )
    return float(timeout)


class SecretHeaders:
    """
    Checked headers, whose values no repr, log or error shows.

    Args:
        reserved: Names that the sink sets itself; a name that ends in `-` is a prefix.
        url: The URL that they are sent to. The values in its query are hidden too.

    Raises:
        ValueError: A name or a value cannot be sent. The message shows no value.
    """

    def __init__(self, headers: Headers | None, reserved: Collection[str], *, url: str = "") -> None:
        if not isinstance(cast(object, headers), Mapping | None):
            kind = type(headers).__name__
            raise TypeError(f"headers is a mapping, not of type {kind}. Pass headers as {{'name': 'value'}}.")
        self._query = SecretStr(urlsplit(url).query)
        self._headers: dict[str, SecretStr] = {}
        for position, (name, value) in enumerate((headers or {}).items(), 1):
            # The name is not shown: if a key was pasted into the wrong place, the name is the secret.
            if not is_header_name(name):
                raise ValueError(
                    f"headers: the name of header {position} is not made of letters, digits and hyphens. "
                    "Pass headers as {'name': 'value'}."
                )
            name = name.lower()
            if name in self._headers:
                raise ValueError(f"headers: {name!r} comes twice, in different case. Pass it once.")
            if name in reserved or any(each.endswith("-") and name.startswith(each) for each in reserved):
                raise ValueError(f"headers: {name!r} is set by the sink. Leave it out.")
            text = str(secret_text(value))
            if not is_header_value(text):
                raise ValueError(
                    f"headers: the value of {name!r} holds a character that no header can, such as a line break. "
                    "Look for one at the end of the secret's file."
                )
            self._headers[name] = SecretStr(text.strip(" \t"))

    def __repr__(self) -> str:
        return f"SecretHeaders({', '.join(self._headers) or 'none'})"

    def plain(self) -> dict[str, str]:
        """Return names, in lower case, and values, to send and not to keep."""
        return {name: value.get_secret_value() for name, value in self._headers.items()}

    def hide(self, text: str) -> str:
        """
        Return `text`, such as a server's response, with every secret that the server was sent as asterisks.

        A secret is found as it was sent and as `one_line` makes it. The end of the text is hidden too if it is the
        beginning of a secret: a cut may have removed the rest.
        """
        secrets = {secret for value in self.plain().values() for secret in _secrets(value)}
        for member in self._query.get_secret_value().split("&"):
            value = member.partition("=")[2] or member
            secrets |= {value, unquote_plus(value)}
        secrets |= {one_line(secret) for secret in secrets}
        secrets = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        # Longest first: otherwise a secret that contains another would be hidden only in part.
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        halved = max((_halved(text, secret) for secret in secrets), default=0)
        return f"{text[:-halved]}***" if halved else text


def one_line(text: str) -> str:
    """Return text as one line without control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _halved(text: str, secret: str) -> int:
    """Return how many characters at the end of `text` are the beginning of `secret`; 0 if they are too few."""
    longest = min(len(secret) - 1, len(text))
    lengths = range(longest, _SHORTEST_SECRET - 1, -1)
    return next((length for length in lengths if text.endswith(secret[:length])), 0)


def _secrets(value: str) -> set[str]:
    """Return a header's value and its parts: its words, and what Basic authentication encodes."""
    found = {value, *value.split()}
    scheme, _, credentials = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(credentials, validate=True).decode()
        except ValueError:
            pass
        else:
            found |= {pair, *pair.split(":", 1)}
    return found


class ClientTls:
    """
    The TLS options of a client: its certificate, and the authorities that it trusts. The files are read when needed.

    Args:
        secure: Whether the endpoint uses https.
        ca_file: Certificates (PEM) to trust instead of the system's.
        client_certificate: The client's certificate and its chain (PEM), for a server that asks for one.
        client_key: Its private key (PEM), without a passphrase; None if it is in the same file.

    Raises:
        ValueError: The options do not go together.
    """

    def __init__(
        self,
        *,
        secure: bool,
        ca_file: FileName | None,
        client_certificate: FileName | None,
        client_key: FileName | None,
    ) -> None:
        if not secure and (ca_file or client_certificate or client_key):
            raise ValueError(
                "ca_file, client_certificate and client_key need an endpoint that begins with 'https://'."
            )
        if client_key and not client_certificate:
            raise ValueError("client_key needs a client_certificate.")
        self.secure = secure
        self.ca_file, self.client_certificate, self.client_key = ca_file, client_certificate, client_key

    def check(self) -> None:
        """
        Read the files, so that a mistake is found before anything is sent.

        Raises:
            SinkError: A file cannot be read, is not PEM, or key and certificate do not belong together.
        """
        if self.ca_file or self.client_certificate:
            self.context()

    def context(self) -> ssl.SSLContext | None:
        """
        Return what an https connection needs, or None if the endpoint uses http.

        Raises:
            SinkError: As in `check`.
        """
        if not self.secure:
            return None
        self.contents()  # names the file that cannot be read, which OpenSSL does not
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError as error:
            raise _unusable(f"ca_file {self.ca_file}", error, "certificates in PEM format") from error
        if self.client_certificate:
            try:
                # Without a password callback, OpenSSL would ask for the passphrase on the terminal, and wait.
                context.load_cert_chain(self.client_certificate, self.client_key, password=_no_passphrase)
            except (ssl.SSLError, ValueError) as error:
                where = f"client_certificate {self.client_certificate}"
                kind = "a certificate and its private key in PEM format, the latter without a passphrase"
                raise _unusable(where, error, kind) from error
        return context

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """
        Return the contents of the files: authorities, key and certificate.

        Raises:
            SinkError: A file cannot be read.
        """
        certificate = _content("client_certificate", self.client_certificate)
        key = _content("client_key", self.client_key) if self.client_key else certificate
        return _content("ca_file", self.ca_file), key, certificate


def _no_passphrase() -> str:
    raise ValueError("the private key is protected by a passphrase")


def _content(option: str, path: FileName | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise SinkError(f"{option} {path}", problem, "Check the path and its permissions.") from error


def _unusable(where: str, error: Exception, kind: str) -> SinkError:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return SinkError(where, "does not belong to the private key", "Give the key that it was made with.")
    problem = (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)
    return SinkError(where, f"cannot be used: {problem}", f"Give files that hold {kind}.")
