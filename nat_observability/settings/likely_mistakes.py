"""Settings that are valid and most likely a mistake: a sentence for each, which becomes a warning."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from nat_observability.settings.exporters.models import BUILT_IN
from nat_observability.settings.standard_variables.opentelemetry import MOST
from nat_observability.settings.variables import EXPORTERS, NAME, PREFIX, variable
from nat_observability.validation import secret_text

if TYPE_CHECKING:
    from nat_observability.settings.exporters import AnyExporterSettings, OtlpExporterSettings
    from nat_observability.settings.observability import ObservabilitySettings

_LONG = 1000.0  # seconds: a number as large is one of milliseconds
_SHORT = 0.1
_NO_LIMIT = MOST / 1000  # what 0 means in the standard variables
_TIMEOUTS = ("start_timeout", "shutdown_timeout")
_OF_EXPORTERS = ("timeout", "write_timeout")
# The ports that are registered for OTLP, and at which collectors listen.
_OTHER_PORT = {"http": 4317, "http/json": 4317, "grpc": 4318}


def likely_mistakes(settings: ObservabilitySettings) -> Iterator[str]:
    """Yield a sentence for each setting that has an effect which nobody wants, or none."""
    for name in _TIMEOUTS:
        yield from _long(variable(name), getattr(settings, name))
    for name, entry in settings.exporters.items():
        for each in _OF_EXPORTERS:
            if hasattr(entry, each):
                yield from _long(variable(EXPORTERS, name, each), getattr(entry, each))
        yield from _of_exporter(name, entry)


def _of_exporter(name: str, entry: AnyExporterSettings) -> Iterator[str]:
    if entry.spool == "off" and entry.spool_path is not None and "spool" not in entry.model_fields_set:
        yield (
            f"{variable(EXPORTERS, name, 'spool_path')} has no effect while "
            f"{variable(EXPORTERS, name, 'spool')} is off: set that to spill or always."
        )
    kept = entry.sampling_rules or entry.sampling_parent_based or entry.sampling_keep_errors
    asked_for = os.environ.get("OTEL_TRACES_SAMPLER")  # always_off says what it means
    if entry.sampling_ratio == 0 and not kept and not asked_for:
        yield f"{variable(EXPORTERS, name)} takes no run: its sampling ratio is 0."
    timeout = getattr(entry, "timeout", None) if entry.type in BUILT_IN else None
    if timeout is not None and timeout < _SHORT:
        yield (
            f"{variable(EXPORTERS, name, 'timeout')} is {timeout:g} seconds, in which few back ends answer; "
            "OTEL_EXPORTER_OTLP_TIMEOUT counts milliseconds."
        )
    if entry.type == "otlp" and (otlp := cast("OtlpExporterSettings", entry)).traces_endpoint is None:
        port = urlsplit(str(secret_text(otlp.endpoint))).port
        if port == _OTHER_PORT[otlp.protocol]:
            other = "gRPC" if port == 4317 else "HTTP"
            yield (
                f"{variable(EXPORTERS, name, 'endpoint')} has the port {port}, at which collectors take {other}, and "
                f"{variable(EXPORTERS, name, 'protocol')} is {otlp.protocol}."
            )


def doubtful_lines(file: str, encoding: str | None) -> Iterator[tuple[int, str]]:
    """
    Yield the number of each line of an env file that does not say what it seems to, and how that goes on.

    None if it is not text, or no file. No value is shown, nor a name inside of one, which may be a part of a secret.
    """
    from dotenv.parser import parse_stream
    from dotenv.variables import Variable, parse_variables

    if not os.path.isfile(file):  # a pipe can be read but once
        return
    known, values = {*os.environ}, dict[str, str]()
    try:
        with open(file, encoding=encoding or "utf-8") as lines:
            for each in parse_stream(lines):
                line, key = each.original.line, (each.key or "").lstrip("\ufeff")
                is_ours = PREFIX in key.upper()
                if each.error or (is_ours and (each.value is None or not NAME.fullmatch(key))):
                    yield line, "is not NAME=value. It is ignored."
                elif is_ours and each.value is not None:
                    if values.setdefault(key.upper(), each.value) != each.value:
                        yield (
                            line,
                            f"sets {key.upper()} once more: this value counts, and not the one before.",
                        )
                    if any(
                        isinstance(part, Variable) and part.default is None and part.name not in known
                        for part in parse_variables(each.value)
                    ):
                        yield (
                            line,
                            f"refers in {key.upper()} to a variable that is not set: it counts as empty.",
                        )
                known.add(key)
    except (OSError, UnicodeDecodeError):
        return


def _long(name: str, seconds: float) -> Iterator[str]:
    if _LONG < seconds < _NO_LIMIT:
        yield f"{name} is {seconds:g} seconds: if milliseconds were meant, write {seconds / 1000:g}."


_COMMENT = re.compile(r"\s#\s")
_REFERENCE = re.compile(r"\$[A-Za-z_{(]|%\w+%")


def left_to_a_shell(variables: Mapping[str, str | None], from_file: Container[str] = ()) -> Iterator[str]:
    """
    Yield a sentence for each variable whose value has what a shell would have removed or replaced.

    Args:
        variables: Names in lower case, and values.
        from_file: The names of those from an env file that was read here, without the comments in it.
    """
    for name, value in variables.items():
        if not value:
            continue
        if name.endswith("__path") and value.endswith("/"):
            yield f"{name.upper()} ends with a slash, and is the path of a file: add the file's name."
        if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
            has, of_it = "begins and ends with a quotation mark", "which is part of the value"
        elif (
            _COMMENT.search(value)
            and value[0] not in "{["
            and "pattern" not in name
            and name not in from_file
        ):
            has, of_it = "has a comment behind its value", "which is part of it"
        elif name.endswith("path") and _REFERENCE.search(value):
            has, of_it = "names another variable", "which is not replaced by its value"
        else:
            if name.endswith(("path", "name")) and value != value.strip():
                yield f"{name.upper()} begins or ends with a blank or a line break, which is part of it: remove it."
            continue
        yield f"{name.upper()} {has}, {of_it}: the env files of Docker are not read by a shell."
