"""Standard variables of the whole process: propagators, detectors, log level, whether message content is captured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nat_observability.propagation.formats import PROPAGATORS
from nat_observability.resource import DETECTORS
from nat_observability.settings.standard_variables.opentelemetry import StandardReader

_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "verbose": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "fatal": "error",
    "none": "none",
    "off": "none",
}
# The values of opentelemetry-util-genai, and those that instrumentations had before it.
_CONTENT = {
    "true": True,
    "span_only": True,
    "span_and_event": True,
    "false": False,
    "no_content": False,
    "event_only": False,
    "1": True,
    "0": False,
}
# The names of detectors in the Python SDK, where they differ. Its own is what is always there.
_DETECTOR_NAMES = {"service": "service_instance", "serviceinstance": "service_instance"}

IGNORED: Mapping[str, str] = {
    "OTEL_ENTITIES": "set OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_JAEGER_AGENT_HOST": "Jaeger takes OTLP: use an exporter of type otlp",
    "OTEL_EXPORTER_JAEGER_ENDPOINT": "Jaeger takes OTLP: use an exporter of type otlp",
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT": "send OTLP to a collector that writes to Zipkin",
    "OTEL_EXPORTER_ZIPKIN_TIMEOUT": "send OTLP to a collector that writes to Zipkin",
    "OTEL_INSTRUMENTATION_GENAI_UPLOAD_BASE_PATH": "content stays on the spans; CAPTURE_INPUTS and CAPTURE_OUTPUTS "
    "switch it off",
}
"""Variables of OpenTelemetry that are known and ignored, and what to do instead."""


def ignored_variables(variables: Mapping[str, str | None]) -> list[str]:
    """Return a sentence for each variable that is set, known and ignored."""
    return [
        f"{name} is known and not used: {cure}."
        for name, cure in IGNORED.items()
        if variables.get(name.lower())
    ]


def process_defaults(
    variables: Mapping[str, str | None], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """
    Return what they add to the settings of the process, and a sentence for each part that is ignored.

    Args:
        variables: Names in lower case, and values; an empty value is an unset one.
        given: The settings that are already set.
    """
    reader = StandardReader(variables)
    found: dict[str, Any] = {}
    if "propagators" not in given and (text := variables.get("otel_propagators")):
        names = _known(reader, "OTEL_PROPAGATORS", text, (*PROPAGATORS, "none"), {})
        # If none of them is known the variable is ignored: each trace would end here otherwise.
        found["propagators"] = ("none",) if "none" in names else names or None
    if "log_level" not in given:
        found["log_level"] = reader.first(_level, "OTEL_LOG_LEVEL")
    if "resource_detectors" not in given and (text := variables.get("otel_experimental_resource_detectors")):
        names = _known(
            reader, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", text, (*DETECTORS, "otel"), _DETECTOR_NAMES
        )
        found["resource_detectors"] = tuple(name for name in names if name != "otel")
    captured = reader.first(_content, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT")
    if captured is False:
        found.update({key: False for key in ("capture_inputs", "capture_outputs") if key not in given})
    return {key: value for key, value in found.items() if value is not None}, reader.ignored


def _known(
    reader: StandardReader, variable: str, text: str, known: tuple[str, ...], aliases: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the known names of a list, without repetition; a sentence for the others goes to the reader."""
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    names = [aliases.get(name, name) for name in names]
    if unknown := [name for name in names if name not in known]:
        # Without the names: what was pasted into the wrong place may be a secret.
        which = "a name" if len(unknown) == 1 else f"{len(unknown)} names"
        reader.ignored.append(
            f"{variable} holds {which} that this package does not have; supported: {', '.join(known)}."
        )
    return tuple(dict.fromkeys(name for name in names if name in known))


def _level(text: str) -> str:
    if (level := _LEVELS.get(text.strip().lower())) is None:
        raise ValueError("is none of debug, info, warn, error, none")
    return level


def _content(text: str) -> bool:
    if (captured := _CONTENT.get(text.strip().lower())) is None:
        raise ValueError(f"is none of {', '.join(_CONTENT)}")
    return captured
