"""SelectionIndex: the exporters of a registry by what they select, so that a run finds its own among thousands."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isawaitable, iscoroutine

from nat_observability.events import Run
from nat_observability.exporter import selection
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.selection import Selection, value_of
from nat_observability.foreign_errors import locate, reraise_signal
from nat_observability.logs import RepeatedEvent, get_logger

_log = get_logger()
_log_selection = RepeatedEvent()


class SelectionIndex:
    """
    The exporters of a registry that never changes, by what they select.

    Those that select by values of an id or a tag are looked up; those that select by a function or a glob are asked,
    once for each run.

    Attributes:
        everywhere: Those that take part in every run, by name.
        selects: Whether any other exporter exists.
    """

    __slots__ = ("_asked", "_by_value", "_positions", "_registry", "everywhere", "selects")

    def __init__(self, registry: dict[str, BaseExporter]) -> None:
        self._registry = registry
        self.everywhere: dict[str, BaseExporter] = {}
        self._asked: list[str] = []
        # By one of the names that they select by, and by each of its values.
        self._by_value: dict[str, dict[str, list[str]]] = {}
        for name, exporter in registry.items():
            # A class written for the reference toolkit may have a `select` that means something else.
            if not issubclass(type(exporter), BaseExporter):
                self.everywhere[name] = exporter
            elif type(exporter).select is not BaseExporter.select:
                self._asked.append(name)  # a subclass has its own, which may change
            elif (select := exporter.select) is None:
                self.everywhere[name] = exporter
            elif isinstance(select, Selection) and select.exact:
                key, values = next(iter(select.exact.items()))
                by_value = self._by_value.setdefault(key, {})
                for value in values:
                    by_value.setdefault(value, []).append(name)
            else:
                self._asked.append(name)
        self.selects = bool(self._asked or self._by_value)
        self._positions = {name: n for n, name in enumerate(registry)} if self.selects else {}

    def taking_part(
        self, run: Run, everywhere: Mapping[str, BaseExporter] | None = None
    ) -> dict[str, BaseExporter]:
        """
        Return the exporters that take part in a run, in the order of the registry, in a dict of the caller's own.

        Args:
            run: The run.
            everywhere: Those of `everywhere` to include; all by default.
        """
        registry = self._registry
        always = self.everywhere if everywhere is None else everywhere
        selected = [
            name
            for key, by_value in self._by_value.items()
            if (value := value_of(run, key)) is not None
            for name in by_value.get(value, ())
            if _selected(name, registry[name], run)
        ]
        selected += [name for name in self._asked if _selected(name, registry[name], run)]
        if not selected:
            return dict(always)
        if always or len(selected) > 1:
            selected = sorted([*always, *selected], key=self._positions.__getitem__)
        return {name: registry[name] for name in selected}


class SelectionIndexCache:
    """The index of the last registry looked up: managers of one factory share it, run after run."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[dict[str, BaseExporter], int, SelectionIndex] | None = None

    def index_of(self, registry: dict[str, BaseExporter]) -> SelectionIndex:
        """Return the index of a registry, which never changes."""
        last, changes = self._last, selection.changes
        if last is not None and last[0] is registry and last[1] == changes:
            return last[2]
        index = SelectionIndex(registry)
        self._last = registry, changes, index
        return index


def _selected(name: str, exporter: BaseExporter, run: Run) -> bool:
    try:
        select = exporter.select
        answer: object = True if select is None else select(run)
        if answer is True or answer is False or not isawaitable(answer):
            return bool(answer)
        if iscoroutine(answer):
            answer.close()  # it would never be awaited
        problem = "select must not be asynchronous: no run waits for its answer"
    except BaseException as error:  # noqa: BLE001  foreign code may raise anything
        reraise_signal(error)
        problem = locate(error)
    if (suppressed := _log_selection.due()) is not None:
        _log.warning(
            "exporter_selection_failed",
            exporter=name,
            workflow_run_id=run.run_id,
            error=problem,
            suppressed=suppressed,
        )
    return False
