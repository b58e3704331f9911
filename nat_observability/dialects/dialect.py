"""Dialect: one vocabulary of attribute names, as a table over what a span holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nat_observability.events import Run, Span, StepKind

AttributeValue = str | int | float | bool | tuple[str, ...] | list[Any] | dict[str, Any] | None
Attributes = dict[str, AttributeValue]


def no_attributes(*_: object) -> Attributes:
    """Return none."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dialect:
    """
    What a vocabulary calls each thing that a span holds. What is missing here it has no word for.

    Attributes:
        name: As the setting DIALECT has it.
        prefixes: How the names of its attributes begin, for a span that already speaks it.
        kinds: What a step of a kind is: fixed attributes.
        named: The attributes that hold a step's name, by kind.
        span_names: The first word of a span's name, by kind; the step's name follows.
        run: The attributes for fields of the run.
        of_run: What no table can say of a run.
        usage: The attributes for fields of `TokenUsage`.
        cost: The attributes for fields of `TokenCost`.
        error: The attributes for fields of `ErrorDetails`.
        payloads: The attributes for "input", "output" and "metadata"; a payload's `mime_type` is added to one that ends
            in `.value`.
        tags: The attribute for a step's tags.
        of_outcome: What no table can say of how a span ended.
        of_own: What it says of attributes that were recorded under the GenAI conventions' names.
    """

    name: str
    prefixes: tuple[str, ...]
    kinds: Mapping[StepKind, Mapping[str, str]] = field(default_factory=dict)
    named: Mapping[StepKind, tuple[str, ...]] = field(default_factory=dict)
    span_names: Mapping[StepKind, str] = field(default_factory=dict)
    run: Mapping[str, str] = field(default_factory=dict)
    of_run: Callable[[Run], Attributes] = no_attributes
    usage: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, str] = field(default_factory=dict)
    payloads: Mapping[str, str] = field(default_factory=dict)
    tags: str | None = None
    of_outcome: Callable[[Span], Attributes] = no_attributes
    of_own: Callable[[Span, dict[str, Any]], Attributes] = no_attributes
