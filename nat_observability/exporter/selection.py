"""Selection: which runs an exporter takes part in, by their ids and tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from inspect import iscoroutinefunction

from nat_observability.errors import InvalidSelectionError
from nat_observability.events import Run
from nat_observability.recording.capture import capture_label

Select = Callable[[Run], bool] | Mapping[str, str | Collection[str]]
"""Which runs an exporter takes part in: what `Selection` takes, or a function that is asked for each run."""

_FIELDS = ("run_id", "trace_id", "conversation_id", "user_id", "workflow_name")

changes = 0
"""How often what an exporter selects was set, in this process."""


def note_change() -> None:
    """Invalidate what was cached about what exporters select."""
    global changes
    changes += 1


class Selection:
    """
    Chooses the runs that have certain ids and tags: all of them, and of each one of several values.

    A run finds the exporters that have a selection without asking each of them, so that there may be thousands.

    Args:
        wanted: Values by name. `run_id`, `trace_id`, `conversation_id`, `user_id` and `workflow_name` are those of the
            run, any other name is a tag's.
        globs: Whether `*` and `?` in a value stand for any characters and any one. Otherwise a value is taken as it is,
            so that nothing in a tenant's name can select the runs of another.

    Attributes:
        exact: What is wanted of each name that has no glob.

    Raises:
        InvalidSelectionError: `wanted` is empty, or a name or a value is, or is not text.
    """

    __slots__ = ("_patterns", "exact")

    def __init__(self, wanted: Mapping[str, str | Collection[str]], *, globs: bool = False) -> None:
        self.exact: dict[str, frozenset[str]] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        if not wanted:
            raise InvalidSelectionError("no name at all, and would select every run")
        for name, values in wanted.items():
            texts = _texts(name, values)
            if globs and any("*" in text or "?" in text for text in texts):
                self._patterns[name] = _pattern(tuple(sorted(texts)))
            else:
                self.exact[name] = texts

    def __call__(self, run: Run) -> bool:
        """Whether it chooses a run."""
        return all(value_of(run, name) in values for name, values in self.exact.items()) and all(
            (value := value_of(run, name)) is not None and pattern.fullmatch(value) is not None
            for name, pattern in self._patterns.items()
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Selection):
            return NotImplemented
        return self.exact == other.exact and self._patterns == other._patterns

    def __hash__(self) -> int:
        return hash(frozenset(self.exact.items()))

    def __repr__(self) -> str:
        wanted = {name: sorted(values) for name, values in self.exact.items()}
        globs = {name: pattern.pattern for name, pattern in self._patterns.items()}
        return f"Selection({wanted!r})" if not globs else f"<Selection of {wanted!r} and {globs!r}>"


def selection_of(select: Select | None) -> Callable[[Run], bool] | None:
    """
    Return the function that an exporter asks.

    Raises:
        InvalidSelectionError: It is neither a function nor a mapping of names to values.
    """
    if iscoroutinefunction(select):
        raise InvalidSelectionError("a coroutine function, and no run waits for one")
    if select is None or callable(select):
        return select
    if isinstance(select, Mapping):
        return Selection(select)
    raise InvalidSelectionError(f"neither a mapping nor a function, but of type {type(select).__name__}")


def value_of(run: Run, name: str) -> str | None:
    """Return what a run has under a name; None if it has nothing."""
    if name in _FIELDS:
        value: str | None = getattr(run, name)
        return value
    for tag, value in run.tags:
        if tag == name:
            return value
    return None


def _texts(name: object, values: object) -> frozenset[str]:
    if not isinstance(name, str) or not name:
        raise InvalidSelectionError(f"the name {name!r}, which is not text")
    listed: Iterable[object] = (
        (values,) if isinstance(values, str) or not isinstance(values, Collection) else values
    )
    texts: set[str] = set()
    for value in listed:
        if not isinstance(value, str) or not value.strip():
            # Not the value itself: it may be anything of the application's.
            raise InvalidSelectionError(
                f"for {name!r} {'an empty text' if isinstance(value, str) else f'a {type(value).__name__}'}"
            )
        texts.add(capture_label(value))
    if not texts:
        raise InvalidSelectionError(f"for {name!r} no value")
    return frozenset(texts)


@lru_cache(maxsize=1024)
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    # Not fnmatch: a tenant's name may hold brackets.
    parts = (re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".") for glob in globs)
    return re.compile("|".join(parts), re.DOTALL)
