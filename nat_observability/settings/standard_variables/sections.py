"""Section: a mapping in a configuration file, which knows its place, and what in it nobody has read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nat_observability.settings.standard_variables.yaml_file import written

_T = TypeVar("_T")


@dataclass
class Findings:
    """
    What is to be said about a file.

    Attributes:
        problems: What is wrong; the start stops.
        notes: What is not supported, and what happens instead.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Section:
    """
    A mapping, at a place such as `tracer_provider.limits`.

    Args:
        value: What is there; None, as a key without a value gives, is an empty mapping.
    """

    def __init__(self, value: object, place: str, findings: Findings) -> None:
        self.place, self._findings = place, findings
        self._left: dict[str, Any] = {}
        self._is_wrong = not (value is None or isinstance(value, Mapping))
        if isinstance(value, Mapping):
            self._left = {str(key): inner for key, inner in value.items()}
        elif self._is_wrong:
            self.problem("is not a mapping")

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def names(self) -> list[str]:
        """Return what has not been read yet."""
        return list(self._left)

    def problem(self, words: str, key: str | None = None) -> None:
        """Note that something is wrong at this place, or at a key below it."""
        self._findings.problems.append(f"{self._at(key)} {words}.")

    def note(self, words: str, key: str | None = None) -> None:
        """Note that something is not supported, and what happens instead."""
        self._findings.notes.append(f"{self._at(key)} is not supported: {words}.")

    def take(self, *keys: str) -> Any:
        """Return and remove the first of these that is set; None if none is, or has no value."""
        values = [self._left.pop(key, None) for key in keys]
        return next((value for value in values if value is not None), None)

    def section(self, *keys: str) -> Section:
        """Return the mapping below the first of these keys that is there; an empty one if none is."""
        key = next((each for each in keys if each in self._left), keys[0])
        return Section(self._left.pop(key, None), self._at(key), self._findings)

    def sections(self, key: str, *, named: bool = False, kinds: bool = False) -> Iterator[Section]:
        """
        Yield the mappings of a list.

        Args:
            key: Of the list.
            named: Whether those of a mapping count too, by their names, as early formats have it.
            kinds: Whether a text is a kind without options, likewise.
        """
        listed = self._left.pop(key, None)
        if kinds and isinstance(listed, list):
            listed = [{each: None} if isinstance(each, str) else each for each in listed]
        if named and isinstance(listed, Mapping):
            listed = [{"name": name, "value": value} for name, value in listed.items()]
        if listed is not None and not isinstance(listed, list):
            self.problem("is not a list", key)
            return
        for position, each in enumerate(listed or ()):
            yield Section(each, f"{self._at(key)}[{position}]", self._findings)

    def one(self) -> tuple[str, Section] | None:
        """Return the only key and what is below it, as a choice between kinds is written; None if it is not one."""
        if len(self._left) != 1:
            if not self._is_wrong:
                self.problem("does not name exactly one kind")
            self._left.clear()
            return None
        (key,) = self._left
        return key, self.section(key)

    def names_one(self, key: str, kind: str) -> bool:
        """Whether a key holds a choice of this kind, without options."""
        value = self._left.get(key)
        return isinstance(value, Mapping) and [*value] == [kind] and not value[kind]

    def text(self, *keys: str) -> str | None:
        """Return a text, or a number or a switch as text."""
        value = self.take(*keys)
        if value is None or isinstance(value, str):
            return value or None
        if isinstance(value, bool | int | float):
            return written(value)
        self.problem("is not text", keys[0])
        return None

    def whole(self, key: str, least: int = 0) -> int | None:
        """Return a whole number."""
        value = self.take(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            return value
        self.problem(f"is not a whole number from {least}", key)
        return None

    def switch(self, key: str) -> bool | None:
        """Return true or false."""
        value = self.take(key)
        if value is None or isinstance(value, bool):
            return value
        self.problem("is neither true nor false", key)
        return None

    def ratio(self, key: str) -> float | None:
        """Return a number from 0 to 1."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
        self.problem("is not a number from 0 to 1", key)
        return None

    def parsed(self, key: str, parse: Callable[[str], _T]) -> _T | None:
        """Return what `parse` makes of a text; what it raises is a problem of this key."""
        text = self.text(key)
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.problem(str(error), key)
        return None

    def rest(self, words: str) -> None:
        """Note each key that was not read as not supported."""
        for key in self._left:
            self.note(words, key)
        self._left.clear()

    def _at(self, key: str | None) -> str:
        if key is None:
            return self.place or "the file"
        return f"{self.place}.{key}" if self.place else key
