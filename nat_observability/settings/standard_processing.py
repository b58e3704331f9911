"""The standard variables of sampling and of limits, which stand in where ours are not set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nat_observability.settings.standard_variables import StandardReader, parse_not_negative

_LIMITS = {
    "attribute_count_limit": ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "attribute_value_length_limit": (
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    ),
    "event_count_limit": ("OTEL_SPAN_EVENT_COUNT_LIMIT",),
    "link_count_limit": ("OTEL_SPAN_LINK_COUNT_LIMIT",),
}
_SAMPLERS: Mapping[str, float | None] = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}
_PARENT_BASED = "parentbased_"


def processing_defaults(
    variables: Mapping[str, str | None], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """
    Return what the standard variables add to the settings of the process, and a sentence for each that is not valid.

    The sampler counts as a whole: where `sampling_ratio` is given, it says nothing.

    Args:
        variables: Names in lower case, and values; an empty value is an unset one.
        given: The settings that are set already.
    """
    reader = StandardReader(variables)
    found: dict[str, Any] = {
        key: reader.first(parse_not_negative, *names) for key, names in _LIMITS.items() if key not in given
    }
    if "sampling_ratio" not in given and (sampler := reader.first(_sampler, "OTEL_TRACES_SAMPLER")):
        kind = sampler.removeprefix(_PARENT_BASED)
        ratio = _SAMPLERS[kind]
        if ratio is None:
            # The specification: without an argument, or with one that is not valid, the ratio is 1.
            ratio = reader.first(_ratio, "OTEL_TRACES_SAMPLER_ARG")
            ratio = 1.0 if ratio is None else ratio
        found["sampling_ratio"] = ratio
        if "sampling_parent_based" not in given:
            found["sampling_parent_based"] = sampler != kind
    return {key: value for key, value in found.items() if value is not None}, reader.ignored


def _sampler(text: str) -> str:
    name = text.strip().lower()
    if name.removeprefix(_PARENT_BASED) not in _SAMPLERS:
        known = [*_SAMPLERS, *(_PARENT_BASED + each for each in _SAMPLERS)]
        raise ValueError(f"is none of {', '.join(known)}")
    return name


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ValueError("is not a number from 0 to 1")
    return ratio
