"""exporters_of(): which exporters `OTEL_TRACES_EXPORTER` and `OTEL_EXPORTER_OTLP_*` stand for, if ours name none."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

VARIABLE = "OTEL_TRACES_EXPORTER"
OURS = "nat_observability"
"""Our own name among the exporters of the OpenTelemetry SDK: it hands its spans to ours, which other settings name."""

_OTLP = "otel_exporter_otlp_"
_OF_OTLP = frozenset(
    f"{_OTLP}{signal}{setting}"
    for signal in ("", "traces_")
    for setting in (
        "endpoint", "headers", "timeout", "compression", "protocol", "certificate", "client_key",
        "client_certificate", "insecure",
    )
)  # fmt: skip
"""The variables of the specification that are about spans over OTLP."""
_OTHERS = ("metric", "log", "profile", "zipkin", "jaeger", "prometheus")
"""What is in the names of variables that are not about spans over OTLP, however similar they are."""
_ALIKE = 0.88

# By the specification, the console exporter writes to the standard output.
_ENTRIES: Mapping[str, Mapping[str, Any]] = {
    "otlp": {"type": "otlp"},
    "console": {"type": "console", "stream": "stdout"},
    # The names of the SDK for Python, which choose the protocol too.
    "otlp_proto_http": {"type": "otlp", "protocol": "http"},
    "otlp_proto_grpc": {"type": "otlp", "protocol": "grpc"},
}


def exporters_of(variables: Mapping[str, str | None]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """
    Return exporters by name, with their types, and a sentence for each name that is ignored.

    By the specification, `OTEL_TRACES_EXPORTER` is `otlp` if it is not set. It counts here only together with a
    variable of OTLP: a process in which nothing is configured exports nothing. Beside our own name, the others are
    exporters of the SDK, which sends its spans there itself.

    Args:
        variables: Names in lower case, and values; an empty value is an unset one.
    """
    text = variables.get(VARIABLE.lower())
    names = [part.strip().lower() for part in (text or "").split(",") if part.strip()]
    is_about_otlp = any(value and name in _OF_OTLP for name, value in variables.items())
    ignored: list[str] = []
    beside_ours = [name for name in names if name != OURS] if OURS in names else []
    if not names or OURS in names:
        names = []
        is_about_otlp = is_about_otlp and not any(map(_is_otlp, beside_ours))
        if is_about_otlp and (missing := _missing_extra(variables)) is not None:
            # Nobody asked for our exporter by name: what the application sets for others must not stop it.
            ignored.append(
                f"OTEL_EXPORTER_OTLP_* would make an exporter, which needs pip install 'nat-observability[{missing}]'."
            )
        elif is_about_otlp:
            names = ["otlp"]
    if "none" in names and len(names) > 1:
        ignored.append(f"{VARIABLE} holds none beside other names.")
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in _ENTRIES:
            found[name] = dict(_ENTRIES[name])
        elif name != "none":
            # Without the name, which may be a secret in the wrong place.
            ignored.append(
                f"{VARIABLE} holds a name that this package does not have; supported: otlp, console, none."
            )
    return found, list(dict.fromkeys(ignored))


def misspelt(variables: Mapping[str, str | None]) -> list[str]:
    """Return a sentence for each variable that was meant to be one about spans over OTLP."""
    return [
        f"{name.upper()} is not a variable of OpenTelemetry. Did you mean {meant}?"
        for name, value in sorted(variables.items())
        if value and (meant := variable_meant(name)) is not None
    ]


def variable_meant(name: str) -> str | None:
    """Return the variable that is meant by a similar name; None if it is one, or if none is similar."""
    lower = name.lower()
    known = (VARIABLE.lower(), *_OF_OTLP)
    if (
        not lower.startswith(("otel_exporter", "otel_trace"))
        or lower in known
        or any(map(lower.__contains__, _OTHERS))
    ):
        return None
    import difflib  # slow to import, and needed only for what is misspelt

    match = difflib.get_close_matches(lower, known, n=1, cutoff=_ALIKE)
    return match[0].upper() if match else None


def _is_otlp(name: str) -> bool:
    return _ENTRIES.get(name, {}).get("type") == "otlp"


def _missing_extra(variables: Mapping[str, str | None]) -> str | None:
    protocol = variables.get(f"{_OTLP}traces_protocol") or variables.get(f"{_OTLP}protocol") or ""
    module, extra = ("grpc", "grpc") if protocol.strip().lower() == "grpc" else ("aiohttp", "otlp")
    return None if find_spec(module) is not None else extra
