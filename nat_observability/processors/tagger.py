"""Tagger: gives every item the tags of its exporter and a privacy level."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from nat_observability.events import Item


class PrivacyLevel(StrEnum):
    """How sensitive what is recorded is, in the reference toolkit's words, for who may see it further on."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Tagger:
    """
    Adds tags to an item's run, where the run has none of that name.

    Args:
        tags: Names and values.
        privacy: Becomes the tag `privacy.level`, whatever the run says itself.
    """

    name = "tag"

    def __init__(
        self, tags: Mapping[str, str] | None = None, *, privacy: PrivacyLevel | str | None = None
    ) -> None:
        self._tags = dict(tags or {})
        self._privacy = None if privacy is None else PrivacyLevel(privacy)

    def __call__(self, item: Item) -> Item:
        """Return `item` with the tags."""
        raise NotImplementedError
