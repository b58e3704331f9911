"""The standard OpenTelemetry variables, which stand in where ours are not set."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import TypeAdapter

from nat_observability.settings.variables import EXPORTERS, variable

MOST = 2**31 - 1
"""The largest integer that the OpenTelemetry specification asks for; in milliseconds, its stand-in for no limit."""

SERVICE_NAME = "service.name"

DEFAULT_QUEUE_ITEMS = 8192
"""The items in an exporter's queue at most, where neither a variable of ours nor a standard one says."""

_WHOLE_NUMBER = re.compile(r"\s*[0-9]{1,10}\s*")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INTEGER = TypeAdapter(int)


_T = TypeVar("_T")


class StandardReader:
    """
    Reads standard variables; `ignored` has a sentence for each that is not valid, without its value.

    The OpenTelemetry specification has a variable that is not valid warned about and ignored.

    Args:
        variables: Names in lower case, and values; an empty value is an unset one.
    """

    def __init__(self, variables: Mapping[str, str | None]) -> None:
        self._variables = variables
        self.ignored: list[str] = []

    def first(self, parse: Callable[[str], _T], *names: str) -> _T | None:
        """Return what `parse` makes of the first variable that is set and valid, or None where none is."""
        for name in names:
            if text := self._variables.get(name.lower()):
                try:
                    return parse(text)
                except ValueError as error:
                    self.ignored.append(f"{name} {error}.")
        return None


@dataclass(frozen=True, slots=True)
class StandardVariables:
    """
    What the standard variables say; None, or nothing, where one is not set or not valid.

    `ignored` holds a sentence for each that is not valid. Times are in seconds, though the variables are in
    milliseconds.
    """

    disabled: bool = False
    service_name: str | None = None
    resource_attributes: Mapping[str, str] = field(default_factory=dict)
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
        Return what they add to the settings of an exporter, and a sentence for each that does not go with these.

        Args:
            name: The exporter's name.
            given: The settings of it that are set already.
        """
        queue_items, batch_items, ignored = self.queue_items, self.batch_items, []
        given_queue, given_batch = _size(given.get("queue_items")), _size(given.get("batch_items"))
        if "queue_items" not in given and queue_items and given_batch and queue_items < given_batch:
            ignored.append(f"OTEL_BSP_MAX_QUEUE_SIZE is below {variable(EXPORTERS, name, 'batch_items')}.")
            queue_items = None
        holds = given_queue if "queue_items" in given else queue_items or DEFAULT_QUEUE_ITEMS
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
    Parse a whole number from 0 to the largest that the specification asks for.

    Raises:
        ValueError: It is none.
    """
    return _whole_number(text, 0)


def _size(given: object) -> int | None:
    """Read a size as validation will, which says what is wrong with one that is None here."""
    try:
        return _INTEGER.validate_python(given)
    except ValueError:
        return None


def parse_switch(text: str) -> bool:
    """
    Parse a boolean as the specification has it.

    Raises:
        ValueError: It is neither true nor false.
    """
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text.strip().lower() == "true"


def parse_timeout(text: str) -> float:
    """
    Return the seconds of a timeout in milliseconds.

    The specification reads a timeout of 0 as no limit, and lets the largest number stand for it.

    Raises:
        ValueError: It is not a whole number that is not negative.
    """
    return (parse_not_negative(text) or MOST) / 1000


def parse_pairs(text: str) -> dict[str, str]:
    """
    Parse `key=value` pairs with commas between them, both sides percent-encoded, as in `OTEL_RESOURCE_ATTRIBUTES`.

    As in W3C Baggage, spaces around a key and a value do not count, and a value may hold a bare `=`. Empty members
    are skipped, and of a key that comes twice the last one holds.

    Raises:
        ValueError: A part is not valid. The specification has the whole text discarded then, and so it is.
    """
    attributes = {}
    for member in text.split(","):
        key, equals, value = (part.strip() for part in member.partition("="))
        if not (key and equals) and member.strip():
            raise ValueError("holds a member that is not key=value")
        if key:
            attributes[_decoded(key)] = _decoded(value)
    return attributes


def _decoded(text: str) -> str:
    if _BAD_PERCENT.search(text):
        raise ValueError("holds a percent sign without two hexadecimal digits")
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()  # bytes that are not UTF-8 come from the environment as lone surrogates
    except UnicodeError:
        raise ValueError("holds what is not UTF-8") from None
    return decoded
