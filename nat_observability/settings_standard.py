"""The standard OpenTelemetry variables, which stand in where ours are not set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

MOST = 2**31 - 1
"""The largest integer that the OpenTelemetry specification asks for; in milliseconds, its stand-in for no limit."""

SERVICE_NAME = "service.name"

_WHOLE_NUMBER = re.compile(r"\s*[0-9]{1,10}\s*")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class StandardVariables:
    """
    What the standard variables say; None, or nothing, where one is not set or not valid.

    The OpenTelemetry specification has a variable that is not valid warned about and ignored: `ignored` holds a
    sentence for each, without its value. Times are in seconds, though the variables are in milliseconds.
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
        ignored: list[str] = []

        def whole_number(name: str, least: int) -> int | None:
            text = variables.get(name.lower())
            if not text:
                return None
            if _WHOLE_NUMBER.fullmatch(text) and least <= int(text) <= MOST:
                return int(text)
            ignored.append(f"{name} is not a whole number from {least} to {MOST}.")
            return None

        def switch(name: str) -> bool:
            text = (variables.get(name.lower()) or "false").strip().lower()
            if text not in ("true", "false"):
                ignored.append(f"{name} is neither true nor false.")
            return text == "true"

        def attributes(name: str) -> dict[str, str]:
            try:
                return parse_resource_attributes(variables.get(name.lower()) or "")
            except ValueError as error:
                ignored.append(f"{name} {error}.")
                return {}

        queue_items = whole_number("OTEL_BSP_MAX_QUEUE_SIZE", 1)
        batch_items = whole_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1)
        if queue_items and batch_items and batch_items > queue_items:
            ignored.append("OTEL_BSP_MAX_EXPORT_BATCH_SIZE is above OTEL_BSP_MAX_QUEUE_SIZE.")
            batch_items = None
        delay = whole_number("OTEL_BSP_SCHEDULE_DELAY", 0)
        timeout = whole_number("OTEL_BSP_EXPORT_TIMEOUT", 0)
        return cls(
            disabled=switch("OTEL_SDK_DISABLED"),
            service_name=(variables.get("otel_service_name") or "").strip() or None,
            resource_attributes=attributes("OTEL_RESOURCE_ATTRIBUTES"),
            queue_items=queue_items,
            batch_items=batch_items,
            batch_age=None if delay is None else delay / 1000,
            # The specification reads a timeout of 0 as no limit, and lets the largest number stand for it.
            write_timeout=None if timeout is None else (timeout or MOST) / 1000,
            ignored=tuple(ignored),
        )

    def exporter(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What they add to the settings of an exporter, of which `given` are set already."""
        found = {
            "queue_items": self.queue_items,
            # A batch that does not fit a queue of the user's is left to the default, which does.
            "batch_items": self.batch_items if _fits(self.batch_items, given.get("queue_items")) else None,
            "batch_age": self.batch_age,
            "write_timeout": self.write_timeout,
        }
        return {key: value for key, value in found.items() if value is not None and key not in given}


def _fits(batch_items: int | None, queue_items: Any) -> bool:
    try:
        return batch_items is None or queue_items is None or batch_items <= int(queue_items)
    except (TypeError, ValueError):
        return True  # validation says what is wrong with it


def parse_resource_attributes(text: str) -> dict[str, str]:
    """
    Parse `OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs with commas between them, both sides percent-encoded.

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
