"""The standard variables of OTLP exporters, `OTEL_EXPORTER_OTLP_*`, which stand in where ours are not set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from nat_observability.http_validation import is_header_name, is_header_value, url_problem
from nat_observability.settings.standard_variables import (
    StandardReader,
    parse_pairs,
    parse_switch,
    parse_timeout,
)

_T = TypeVar("_T")

DEFAULT_ENDPOINTS = {"http": "http://localhost:4318", "grpc": "http://localhost:4317"}
"""Where the OTLP exporter specification has collectors listen, by protocol."""


def parse_headers(text: str) -> dict[str, str]:
    """
    Parse headers as `OTEL_EXPORTER_OTLP_HEADERS` has them: as `parse_pairs` does, names in lower case.

    Raises:
        ValueError: A part is not valid. The message has nothing of it.
    """
    return {name.lower(): value for name, value in parse_pairs(text).items()}


def otlp_defaults(
    variables: Mapping[str, str | None], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """
    Return what the standard variables add to an exporter of type `otlp`, and a sentence for each that is not valid.

    As the specification has it, one for traces (`OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`) wins over the one for all
    signals, and one that is not valid is as good as unset.

    The headers and the client's certificate are secrets of the destination that the variables name: to an exporter
    with an address of its own they are not given, so that no key goes where it was not meant for.

    Args:
        variables: Names in lower case, and values; an empty value is an unset one.
        given: The settings of the exporter that are set already.
    """
    reader = StandardReader(variables)

    def first(option: str, parse: Callable[[str], _T]) -> _T | None:
        return reader.first(parse, f"OTEL_EXPORTER_OTLP_TRACES_{option}", f"OTEL_EXPORTER_OTLP_{option}")

    found: dict[str, Any] = {}

    def take(key: str, option: str, parse: Callable[[str], object]) -> None:
        if key not in given:
            found[key] = first(option, parse)

    take("protocol", "PROTOCOL", _protocol)
    take("compression", "COMPRESSION", _compression)
    take("timeout", "TIMEOUT", parse_timeout)
    own_address = given.get(_TRACES) or given.get(_EVERY)
    if own_address is None:
        protocol = given.get("protocol") or found.get("protocol")
        # Without a scheme only gRPC takes an address, and only there the switch counts.
        bare = ("http://" if first("INSECURE", parse_switch) else "https://") if protocol == "grpc" else None
        traces = reader.first(lambda text: _address(text, bare), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        # What it is for all signals does not matter then: it differs, in its path at least.
        every = traces or reader.first(lambda text: _address(text, bare), "OTEL_EXPORTER_OTLP_ENDPOINT")
        found[_TRACES if traces else _EVERY] = every
        take("headers", "HEADERS", _headers)
    address = _plain(own_address or found.get(_TRACES) or found.get(_EVERY) or "")
    # The specification has certificates for a secure connection only.
    if address.lower().startswith("https://"):
        take("ca_file", "CERTIFICATE", str)
        if own_address is None and not _CLIENT.intersection(given):
            take("client_certificate", "CLIENT_CERTIFICATE", str)
            if found["client_certificate"] is not None:
                take("client_key", "CLIENT_KEY", str)
    return {key: value for key, value in found.items() if value is not None}, reader.ignored


_TRACES, _EVERY = "traces_endpoint", "endpoint"
_CLIENT = frozenset({"client_certificate", "client_key"})


def _protocol(text: str) -> str:
    if text.strip().lower() == "http/json":
        raise ValueError("is http/json, which is not supported; supported: http/protobuf and grpc")
    return _choice(text, {"http/protobuf": "http", "grpc": "grpc"})


def _compression(text: str) -> str:
    return _choice(text, {"gzip": "gzip", "none": "none"})


def _choice(text: str, choices: Mapping[str, str]) -> str:
    # The specification has such values read without regard to case.
    chosen = choices.get(text.strip().lower())
    if chosen is None:
        raise ValueError(f"is neither {' nor '.join(choices)}")
    return chosen


def _address(text: str, bare: str | None) -> str:
    address = text.strip()
    if bare is not None and "://" not in address:
        address = bare + address
    if problem := url_problem(address):
        raise ValueError(problem)
    # gRPC has no path; where the variables were written for HTTP too, there is one.
    return address if bare is None else urlsplit(address)._replace(path="", query="", fragment="").geturl()


def _headers(text: str) -> dict[str, SecretStr]:
    headers = parse_headers(text)
    if not (all(map(is_header_name, headers)) and all(map(is_header_value, headers.values()))):
        raise ValueError("holds a header that cannot be sent")
    return {name: SecretStr(value) for name, value in headers.items()}


def _plain(value: object) -> str:
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)
