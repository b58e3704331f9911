"""Limits and Truncator: how large a span may be, and what is cut off one that is larger."""

from __future__ import annotations

from dataclasses import dataclass

from nat_observability.events import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How large an item may be, in the words of OpenTelemetry and with its defaults.

    Attributes:
        attribute_count_limit: Most keys in `metadata`, and most tags.
        attribute_value_length_limit: Most characters in one value; None for any number.
        event_count_limit: Most events, where the metadata has a list of that name.
        link_count_limit: Most links, likewise.
        span_bytes_limit: Most bytes of everything that is recorded in one item; None for any number.

    Raises:
        InvalidLimitError: A limit is not a whole number, or less than it can be.
    """

    attribute_count_limit: int = 128
    attribute_value_length_limit: int | None = None
    event_count_limit: int = 128
    link_count_limit: int = 128
    span_bytes_limit: int | None = 1024 * 1024


class Truncator:
    """
    Cuts what is over the limits. What is cut ends with a mark that says how much there was.

    A cut splits no UTF-8 character and no mark of a redaction, and JSON stays JSON.
    """

    name = "truncate"

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits

    def __call__(self, item: Item) -> Item:
        """Return `item` within the limits: the same object where it was."""
        raise NotImplementedError
