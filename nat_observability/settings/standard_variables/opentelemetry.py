"""The standard variables of OpenTelemetry, `OTEL_*`, which are honoured if ours are not set."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
from pydantic import SecretStr, TypeAdapter

from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.settings.variables import EXPORTERS, variable
from nat_observability.validation import is_header_name, is_header_value, secret_text, url_problem

MOST = 2**31 - 1
"""The largest integer that the OpenTelemetry specification asks for; in milliseconds, its stand-in for no limit."""

SERVICE_NAME = "service.name"

CONFIG_FILES = ("OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE")
"""The variables that name a configuration file, the first of which counts."""

DEFAULT_LIMITS = DeliveryLimits()
"""The default limits of an exporter's delivery, if neither our variables nor the standard ones set them."""

_WHOLE_NUMBER = re.compile(r"\s*[0-9]{1,10}\s*")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INTEGER = TypeAdapter(int)


_T = TypeVar("_T")


class StandardReader:
    """
    Reads standard variables; `ignored` has a sentence for each invalid one, without its value.

    The OpenTelemetry specification requires a warning for an invalid variable, which is then ignored.

    Args:
        variables: Names in lower case, and values; an empty value is an unset one.
    """

    def __init__(self, variables: Mapping[str, str | None]) -> None:
        self._variables = variables
        self.ignored: list[str] = []

    def first(self, parse: Callable[[str], _T], *names: str) -> _T | None:
        """Return what `parse` makes of the first variable that is set and valid, or None if none is."""
        for name in names:
            if text := self._variables.get(name.lower()):
                try:
                    return parse(text)
                except ValueError as error:
                    self.ignored.append(f"{name} {error}.")
        return None


class StandardVariables(msgspec.Struct, frozen=True):
    """
    What the standard variables say; None or empty if one is not set or not valid.

    `ignored` holds a sentence for each invalid variable. Times are in seconds, although the variables are in
    milliseconds.
    """

    disabled: bool = False
    service_name: str | None = None
    resource_attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    queue_items: int | None = None
    batch_items: int | None = None
    batch_age: float | None = None
    write_timeout: float | None = None
    ignored: tuple[str, ...] = ()

    @classmethod
    def read(cls, variables: Mapping[str, str | None]) -> StandardVariables:
        """
        Read them.

        Args:
            variables: Names in lower case, and values; an empty value is an unset one.
        """
        reader = StandardReader(variables)
        queue_items = reader.first(_positive, "OTEL_BSP_MAX_QUEUE_SIZE")
        batch_items = reader.first(_positive, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
        if queue_items and batch_items and batch_items > queue_items:
            reader.ignored.append("OTEL_BSP_MAX_EXPORT_BATCH_SIZE is above OTEL_BSP_MAX_QUEUE_SIZE.")
            batch_items = None
        delay = reader.first(parse_not_negative, "OTEL_BSP_SCHEDULE_DELAY")
        return cls(
            disabled=reader.first(parse_switch, "OTEL_SDK_DISABLED") or False,
            service_name=(variables.get("otel_service_name") or "").strip() or None,
            resource_attributes=reader.first(parse_pairs, "OTEL_RESOURCE_ATTRIBUTES") or {},
            queue_items=queue_items,
            batch_items=batch_items,
            batch_age=None if delay is None else delay / 1000,
            write_timeout=reader.first(parse_timeout, "OTEL_BSP_EXPORT_TIMEOUT"),
            ignored=tuple(reader.ignored),
        )

    def exporter(self, name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """
        Return what they add to the settings of an exporter, and a sentence for each that does not fit these.

        Args:
            name: The exporter's name.
            given: The exporter's settings that are already set.
        """
        queue_items, batch_items, ignored = self.queue_items, self.batch_items, []
        given_queue, given_batch = _size(given.get("queue_items")), _size(given.get("batch_items"))
        if "queue_items" not in given and queue_items and given_batch and queue_items < given_batch:
            ignored.append(f"OTEL_BSP_MAX_QUEUE_SIZE is below {variable(EXPORTERS, name, 'batch_items')}.")
            queue_items = None
        holds = given_queue if "queue_items" in given else queue_items or DEFAULT_LIMITS.queue_items
        if "batch_items" not in given and batch_items and holds and batch_items > holds:
            which = "" if "queue_items" in given else "the default of "
            queue = variable(EXPORTERS, name, "queue_items")
            ignored.append(f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE is above {which}{queue}.")
            batch_items = None
        found = {
            "queue_items": queue_items,
            "batch_items": batch_items,
            "batch_age": self.batch_age,
            "write_timeout": self.write_timeout,
        }
        return {key: value for key, value in found.items() if value is not None and key not in given}, ignored


def _whole_number(text: str, least: int) -> int:
    if not (_WHOLE_NUMBER.fullmatch(text) and least <= int(text) <= MOST):
        raise ValueError(f"is not a whole number from {least} to {MOST}")
    return int(text)


def _positive(text: str) -> int:
    return _whole_number(text, 1)


def parse_not_negative(text: str) -> int:
    """
    Parse a whole number from 0 to the largest that the specification requires.

    Raises:
        ValueError: The text is not such a number.
    """
    return _whole_number(text, 0)


def _size(given: object) -> int | None:
    """Read a size as validation will; if this returns None, validation says what is wrong."""
    try:
        return _INTEGER.validate_python(given)
    except ValueError:
        return None


def parse_switch(text: str) -> bool:
    """
    Parse a boolean as the specification defines it.

    Raises:
        ValueError: The text is neither true nor false.
    """
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text.strip().lower() == "true"


def parse_timeout(text: str) -> float:
    """
    Return the seconds of a timeout in milliseconds.

    The specification reads a timeout of 0 as no limit, and lets the largest number stand for it.

    Raises:
        ValueError: The text is not a whole number, or is negative.
    """
    return (parse_not_negative(text) or MOST) / 1000


def parse_pairs(text: str) -> dict[str, str]:
    """
    Parse `key=value` pairs with commas between them, both sides percent-encoded, as in `OTEL_RESOURCE_ATTRIBUTES`.

    As in W3C Baggage, spaces around keys and values are ignored, and a value may hold a bare `=`. Empty members are
    skipped, and of repeated keys the last one wins.

    Raises:
        ValueError: A part is not valid. The specification then requires the whole text to be discarded.
    """
    attributes = {}
    for member in text.split(","):
        key, equals, value = (part.strip() for part in member.partition("="))
        if not (key and equals) and member.strip():
            raise ValueError("holds a member that is not key=value")
        if '"' in key:
            raise ValueError("holds a key with a quotation mark: write it without quotation marks around it")
        if key:
            attributes[unquoted(key)] = unquoted(value)
    return attributes


def unquoted(text: str) -> str:
    """
    Decode a percent-encoded text.

    Raises:
        ValueError: It is not percent-encoded, or not UTF-8.
    """
    if _BAD_PERCENT.search(text):
        raise ValueError("holds a percent sign without two hexadecimal digits")
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()  # bytes that are not UTF-8 come from the environment as lone surrogates
    except UnicodeError:
        raise ValueError("holds what is not UTF-8") from None
    return decoded


DEFAULT_ENDPOINTS = {
    "http": "http://localhost:4318",
    "http/json": "http://localhost:4318",
    "grpc": "http://localhost:4317",
}
"""Where collectors listen according to the OTLP exporter specification, by protocol."""


def parse_headers(text: str) -> dict[str, str]:
    """
    Parse headers in the form of `OTEL_EXPORTER_OTLP_HEADERS`: as `parse_pairs` does, with names in lower case.

    Raises:
        ValueError: A part is not valid. The message does not show it.
    """
    return {name.lower(): value for name, value in parse_pairs(text).items()}


def otlp_defaults(
    variables: Mapping[str, str | None], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """
    Return what the standard variables add to an exporter of type `otlp`, and a sentence for each invalid one.

    By the specification, a variable for traces (`OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`) wins over the one for all signals,
    and an invalid one counts as unset.

    The headers and the client's certificate are secrets of the destination that the variables name: an exporter with an
    address of its own does not get them, so that no key goes to the wrong destination.

    Args:
        variables: Names in lower case, and values; an empty value is an unset one.
        given: The exporter's settings that are already set.
    """
    reader = StandardReader(variables)

    signals = ["TRACES_", ""]

    def first(option: str, parse: Callable[[str], _T]) -> _T | None:
        return reader.first(parse, *(f"OTEL_EXPORTER_OTLP_{signal}{option}" for signal in signals))

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
        # Only gRPC takes an address without a scheme, and only there the switch counts.
        bare = ("http://" if first("INSECURE", parse_switch) else "https://") if protocol == "grpc" else None
        traces = reader.first(lambda text: _address(text, bare), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        # The one for all signals does not matter then: it differs, at least in its path.
        every = traces or reader.first(lambda text: _address(text, bare), "OTEL_EXPORTER_OTLP_ENDPOINT")
        found[_TRACES if traces else _EVERY] = every
        # An address that is not valid is ignored, and what was for it goes nowhere else.
        if traces is None and variables.get(f"otel_exporter_otlp_{_TRACES}"):
            signals.remove("TRACES_")
        is_misdirected = every is None and any(
            variables.get(f"otel_exporter_otlp_{name}") for name in (_EVERY, _TRACES)
        )
        if not is_misdirected:
            take("headers", "HEADERS", _headers)
    elif "headers" not in given:
        reader.ignored += _withheld(variables)
    address = str(secret_text(own_address or found.get(_TRACES) or found.get(_EVERY) or ""))
    # By the specification, certificates are for secure connections only.
    if address.lower().startswith("https://"):
        take("ca_file", "CERTIFICATE", str)
        if own_address is None and not _CLIENT.intersection(given):
            take("client_certificate", "CLIENT_CERTIFICATE", str)
            if found["client_certificate"] is not None:
                take("client_key", "CLIENT_KEY", str)
    return {key: value for key, value in found.items() if value is not None}, reader.ignored


def _withheld(variables: Mapping[str, str | None]) -> list[str]:
    """Return a sentence if headers stay unused that an exporter with an address of its own was most likely to get."""

    def is_set(name: str) -> bool:
        return bool(variables.get(name.lower()))

    if any(map(is_set, _ADDRESS_VARIABLES)):  # then it is plain what the headers are for
        return []
    return [
        f"{name} goes to the address of {_ADDRESS_VARIABLES[1]} alone: set HEADERS beside the address."
        for name in _HEADER_VARIABLES
        if is_set(name)
    ][:1]


_ADDRESS_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_HEADER_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_TRACES, _EVERY = "traces_endpoint", "endpoint"
_CLIENT = frozenset({"client_certificate", "client_key"})


def _protocol(text: str) -> str:
    return _choice(text, {"http/protobuf": "http", "http/json": "http/json", "grpc": "grpc"})


def _compression(text: str) -> str:
    return _choice(text, {"gzip": "gzip", "none": "none"})


def _choice(text: str, choices: Mapping[str, str]) -> str:
    # By the specification, such values are case-insensitive.
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
    # gRPC has no path, but variables that were also written for HTTP have one.
    return address if bare is None else urlsplit(address)._replace(path="", query="", fragment="").geturl()


def _headers(text: str) -> dict[str, SecretStr]:
    headers = parse_headers(text)
    if not (all(map(is_header_name, headers)) and all(map(is_header_value, headers.values()))):
        raise ValueError("holds a header that cannot be sent")
    return {name: SecretStr(value) for name, value in headers.items()}


_LIMITS = {
    "attribute_count_limit": ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "attribute_value_length_limit": (
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    ),
    "event_count_limit": ("OTEL_SPAN_EVENT_COUNT_LIMIT",),
    "link_count_limit": ("OTEL_SPAN_LINK_COUNT_LIMIT",),
    "event_attribute_count_limit": ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "link_attribute_count_limit": ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
}
_SAMPLERS: Mapping[str, float | None] = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}
_PARENT_BASED = "parentbased_"
_SAMPLER_ARG = "OTEL_TRACES_SAMPLER_ARG"


def processing_defaults(
    variables: Mapping[str, str | None], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """
    Return what the standard variables add to the settings of the process, and a sentence for each invalid one.

    The sampler counts as a whole: if `sampling_ratio` is given, the sampler is ignored.

    Args:
        variables: Names in lower case, and values; an empty value is an unset one.
        given: The settings that are already set.
    """
    reader = StandardReader(variables)
    found: dict[str, Any] = {
        key: reader.first(parse_not_negative, *names) for key, names in _LIMITS.items() if key not in given
    }
    if "sampling_ratio" not in given and (sampler := reader.first(_sampler, "OTEL_TRACES_SAMPLER")):
        kind = sampler.removeprefix(_PARENT_BASED)
        ratio = _SAMPLERS[kind]
        if ratio is None:
            # By the specification, the ratio is 1 if the argument is missing or not valid.
            ratio = reader.first(_ratio, _SAMPLER_ARG)
            ratio = 1.0 if ratio is None else ratio
        found["sampling_ratio"] = ratio
        if "sampling_parent_based" not in given:
            found["sampling_parent_based"] = sampler != kind
    elif "sampling_ratio" not in given and variables.get(_SAMPLER_ARG.lower()):
        reader.ignored.append(f"{_SAMPLER_ARG} has no effect without OTEL_TRACES_SAMPLER=traceidratio.")
    return {key: value for key, value in found.items() if value is not None}, reader.ignored


def _sampler(text: str) -> str:
    name = text.strip().lower()
    if name.removeprefix(_PARENT_BASED) not in _SAMPLERS:
        known = [*_SAMPLERS, *(_PARENT_BASED + each for each in _SAMPLERS)]
        raise ValueError(f"is none of {', '.join(known)}")
    return name


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ValueError("is not a number from 0 to 1")
    return ratio
