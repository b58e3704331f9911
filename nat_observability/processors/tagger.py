"""Tagger: gives every item the tags of its exporter and a privacy level."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from nat_observability.errors import UnknownPrivacyLevelError
from nat_observability.events import Item, Run
from nat_observability.recording.capture import capture_label

PRIVACY_TAG = "privacy.level"
_REMEMBERED = 256  # runs


class PrivacyLevel(StrEnum):
    """How sensitive the recorded data is, in the terms of the reference toolkit."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Tagger:
    """
    Adds tags to the run of every item.

    A run's own tag takes precedence over one of the same name here, except for the privacy level, which the exporter
    decides. A tagger has no observable state and may be called from several threads.

    Args:
        tags: Names and values.
        privacy: Becomes the tag `privacy.level`.

    Raises:
        UnknownPrivacyLevelError: No level has that name.
        TypeError: `tags` is not a mapping.
    """

    __slots__ = ("_memo", "_privacy", "_tags")

    name = "tag"

    def __init__(
        self, tags: Mapping[str, str] | None = None, *, privacy: PrivacyLevel | str | None = None
    ) -> None:
        given: object = {} if tags is None else tags
        if not isinstance(given, Mapping):
            raise TypeError(f"tags must be a mapping of names to values, not {type(given).__name__}.")
        self._tags = {capture_label(name): capture_label(value) for name, value in given.items()}
        try:
            self._privacy = None if privacy is None else PrivacyLevel(str(privacy).lower())
        except ValueError:
            raise UnknownPrivacyLevelError(privacy, [level.value for level in PrivacyLevel]) from None
        self._memo: dict[int, tuple[Run, Run]] = {}

    def __call__(self, item: Item) -> Item:
        """Return `item` with the tags."""
        remembered = self._memo.get(id(item.run))
        if remembered is None:
            if len(self._memo) >= _REMEMBERED:
                self._memo.clear()
            # This keeps the run alive, so that no other run gets its id. All items of a run get the same new run.
            remembered = self._memo[id(item.run)] = (item.run, self._tagged(item.run))
        run = remembered[1]
        return item if run is item.run else msgspec.structs.replace(item, run=run)

    def __repr__(self) -> str:
        return f"Tagger({', '.join(sorted(self._tags)) or 'no tags'}; privacy: {self._privacy or 'not set'})"

    def _tagged(self, run: Run) -> Run:
        tags = self._tags | dict(run.tags)
        if self._privacy is not None:
            tags[PRIVACY_TAG] = self._privacy.value
        ordered = tuple(sorted(tags.items()))
        return run if ordered == run.tags else msgspec.structs.replace(run, tags=ordered)
