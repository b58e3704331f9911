"""ContentSwitch: whether inputs and outputs leave the process at all."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nat_observability.events import IntermediateStep, Item, StepKind

Capture = bool | Mapping[StepKind | str, bool]
"""Yes or no for all kinds of steps, or for some; the others are captured."""


class ContentSwitch:
    """
    Removes inputs and outputs. Names, times, tokens, metadata and errors stay.

    Args:
        capture_inputs: Whether inputs are kept.
        capture_outputs: Whether outputs are kept, including chunks.

    Raises:
        UnknownStepKindError: No kind of step has that name.
    """

    __slots__ = ("_no_inputs", "_no_outputs")

    name = "content"

    def __init__(self, *, capture_inputs: Capture = True, capture_outputs: Capture = True) -> None:
        self._no_inputs = _left_out(capture_inputs)
        self._no_outputs = _left_out(capture_outputs)

    def __call__(self, item: Item) -> Item:
        """Return `item` without what is not captured: the same object if nothing is removed."""
        changes: dict[str, None] = {}
        if item.input is not None and item.kind in self._no_inputs:
            changes["input"] = None
        if item.kind in self._no_outputs:
            if item.output is not None:
                changes["output"] = None
            if isinstance(item, IntermediateStep) and item.chunk is not None:
                changes["chunk"] = None
        return msgspec.structs.replace(item, **changes) if changes else item

    def __repr__(self) -> str:
        inputs, outputs = (
            f"not {', '.join(sorted(kinds))}" if kinds else "all"
            for kinds in (self._no_inputs, self._no_outputs)
        )
        return f"ContentSwitch(inputs: {inputs}; outputs: {outputs})"


def _left_out(capture: Capture) -> frozenset[StepKind]:
    if isinstance(capture, bool):
        return frozenset() if capture else frozenset(StepKind)
    return frozenset(StepKind.parse(kind) for kind, kept in capture.items() if not kept)
