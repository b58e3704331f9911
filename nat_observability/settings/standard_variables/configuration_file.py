"""read_configuration(): the declarative configuration of OpenTelemetry, `OTEL_CONFIG_FILE`, as settings of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from nat_observability.errors import SettingsError
from nat_observability.resource import DETECTORS, ResourceValue
from nat_observability.settings.standard_variables.opentelemetry import (
    CONFIG_FILES,
    DEFAULT_LIMITS,
    MOST,
    parse_pairs,
)
from nat_observability.settings.standard_variables.sections import Findings, Section
from nat_observability.settings.standard_variables.traces_exporter import OURS
from nat_observability.settings.standard_variables.yaml_file import Lookup, load, written
from nat_observability.validation import is_header_name, is_header_value, url_problem

_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "fatal": "error",
}
_LIMITS = (
    "attribute_value_length_limit",
    "attribute_count_limit",
    "event_count_limit",
    "link_count_limit",
    "event_attribute_count_limit",
    "link_attribute_count_limit",
)
_OTHER_SIGNALS = {
    "meter_provider": "metrics of the application are not exported by this package",
    "logger_provider": "logs of the application are not exported by this package",
    "instrumentation": "instrumentations read it themselves",
    "instrumentation/development": "instrumentations read it themselves",
    "distribution": "it is for the SDK's distribution",
}
_OF_PARENTS = {
    "remote_parent_sampled": "always_on",
    "remote_parent_not_sampled": "always_off",
    "local_parent_sampled": "always_on",
    "local_parent_not_sampled": "always_off",
}
_PROPAGATORS = ("tracecontext", "baggage", "b3", "b3multi")


@dataclass(frozen=True, slots=True)
class Configuration:
    """
    What a file says.

    Attributes:
        settings: Settings of the process.
        resource: Attributes of the resource, the name of the service among them.
        exporters: Exporters by name.
        notes: A sentence for each part that is not supported, with what happens instead.
    """

    settings: Mapping[str, Any]
    resource: Mapping[str, ResourceValue]
    exporters: Mapping[str, dict[str, Any]]
    notes: tuple[str, ...]


def read_configuration(path: str, lookup: Lookup) -> Configuration:
    """
    Read a file of the format `1.0` (https://github.com/open-telemetry/opentelemetry-configuration), or one before it.

    Args:
        path: The file.
        lookup: Returns an environment variable, for substitution.

    Raises:
        SettingsError: The file cannot be read, or holds what its schema does not allow.
    """
    findings = Findings()
    try:
        content = load(Path(path.strip()), lookup)
    except ValueError as error:
        problem = f"{CONFIG_FILES[0]}: {path.strip()} {error}."
    else:
        found = _read(Section(content, "", findings))
        if not findings.problems:
            return found(tuple(f"{CONFIG_FILES[0]}: {note}" for note in findings.notes))
        problem = ""
    # Outside the handlers: a cause may hold values, and would travel along as the error's context.
    raise SettingsError(
        [problem] if problem else [f"{CONFIG_FILES[0]}: {each}" for each in findings.problems]
    )


def _read(file: Section) -> Callable[[tuple[str, ...]], Configuration]:
    settings: dict[str, Any] = {}
    format_ = file.text("file_format")
    if format_ is None or format_.partition(".")[0] not in ("0", "1"):
        file.problem("is missing or not known; supported: 1.0 and before", "file_format")
    if file.switch("disabled"):
        settings["enabled"] = False
    if (level := file.text("log_level")) is not None:
        settings["log_level"] = _LEVELS.get(level.rstrip("234"))
        if settings["log_level"] is None:
            file.problem(f"is none of {', '.join(_LEVELS)}", "log_level")
    limits = file.section("attribute_limits")
    general = {name: limits.whole(name) for name in _LIMITS[:2]}
    limits.rest("it has no effect")
    resource = _resource(file.section("resource"), settings)
    _propagator(file, settings)
    provider = file.section("tracer_provider")
    own = provider.section("limits")
    for name in _LIMITS:
        value = own.whole(name)
        settings[name] = value if value is not None else general.get(name)
    # As the variables have it: the limit of attributes is for those of events and links too.
    for name in _LIMITS[4:]:
        settings[name] = settings[name] if settings[name] is not None else general["attribute_count_limit"]
    own.rest("it has no effect")
    if "sampler" in provider:
        _sampler(provider.section("sampler"), settings)
    exporters: dict[str, dict[str, Any]] = {}
    for processor in provider.sections("processors"):
        _processor(processor, exporters)
    provider.rest("it has no effect")
    for key, words in _OTHER_SIGNALS.items():
        if file.take(key) is not None:
            file.note(words, key)
    file.rest("it has no effect")
    settings = {key: value for key, value in settings.items() if value is not None}
    return lambda notes: Configuration(settings, resource, exporters, notes)


def _resource(section: Section, settings: dict[str, Any]) -> dict[str, ResourceValue]:
    attributes: dict[str, ResourceValue] = {**(section.parsed("attributes_list", parse_pairs) or {})}
    for each in section.sections("attributes", named=True):
        name, value = each.text("name"), each.take("value")
        type_ = each.text("type") or "string"
        if name is None:
            each.problem("has no name")
        elif value is not None:
            try:
                attributes[name] = _attribute(value, type_)
            except ValueError as error:
                each.problem(str(error), "value")
        each.rest("it has no effect")
    settings["resource_schema_url"] = section.text("schema_url")
    detection = section.section("detection/development", "detection")
    detectors = []
    for each in detection.sections("detectors"):
        if (detector := each.one()) is not None:
            written = detector[0]
            name = {"service": "service_instance"}.get(written, written)
            if name in DETECTORS:
                detectors.append(name)
            else:
                each.note("there is no such detector, and nothing is detected by it", written)
    if detectors:
        settings["resource_detectors"] = tuple(detectors)
    detection.rest("everything that the detectors find is kept")
    section.rest("it has no effect")
    return attributes


_TYPES: Mapping[str, Any] = {
    "string": (str,),
    "bool": (bool,),
    "int": (int,),
    "double": (float, int),
}


_CONVERTED: Mapping[str, Callable[[Any], ResourceValue]] = {"bool": bool, "int": int, "double": float}


def _attribute(value: Any, kind: str) -> Any:
    """Return an attribute's value as its type in the file says; without one, it is a string by the schema."""
    single = kind.removesuffix("_array")
    if single not in _TYPES:
        raise ValueError(f"has a type that is none of {', '.join(_TYPES)}, each also with _array")
    if single != kind:
        if not isinstance(value, list):
            raise ValueError(f"is not the list that {kind} is")
        return [_attribute(each, single) for each in value]
    if single == "string":
        return written(value) if isinstance(value, bool | int | float) else _text(value)
    if not isinstance(value, _TYPES[single]) or (isinstance(value, bool) and single != "bool"):
        raise ValueError(f"is not of the type {kind}")
    return _CONVERTED[single](value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _propagator(file: Section, settings: dict[str, Any]) -> None:
    if "propagator" not in file:
        return
    section = file.section("propagator")
    listed = section.text("composite_list") or ""
    names = [
        kind[0] for each in section.sections("composite", kinds=True) if (kind := each.one()) is not None
    ]
    names += [name.strip() for name in listed.split(",") if name.strip()]
    section.rest("it has no effect")
    for name in names:
        if name not in (*_PROPAGATORS, "none"):
            section.note("its headers are neither read nor written", f"composite.{name}")
    known = tuple(dict.fromkeys(name for name in names if name in _PROPAGATORS))
    if known or "none" in names:
        settings["propagators"] = known or ("none",)


def _sampler(section: Section, settings: dict[str, Any]) -> None:
    if (kind := section.one()) is None:
        return
    name, own = kind
    if name == "parent_based":
        settings["sampling_parent_based"] = True
        if "root" in own:
            _sampler(own.section("root"), settings)
            settings["sampling_parent_based"] = True
        for parent, usual in _OF_PARENTS.items():
            if parent in own and own.names_one(parent, usual):
                own.take(parent)  # what happens anyway, and what every template spells out
        own.rest("a run that continues a trace does as its caller says")
        return
    settings.setdefault("sampling_parent_based", False)
    if name in ("always_on", "always_off"):
        settings["sampling_ratio"] = 1.0 if name == "always_on" else 0.0
    elif name in ("trace_id_ratio_based", "probability/development", "probability"):
        ratio = own.ratio("ratio")
        settings["sampling_ratio"] = 1.0 if ratio is None else ratio
        own.rest("it has no effect")
    else:
        section.note("every run is recorded", name)


def _processor(section: Section, exporters: dict[str, dict[str, Any]]) -> None:
    if (kind := section.one()) is None:
        return
    name, own = kind
    entry: dict[str, Any] = {}
    if name == "batch":
        delay, timeout = own.whole("schedule_delay"), own.whole("export_timeout")
        entry = {
            "batch_age": None if delay is None else delay / 1000,
            "write_timeout": None if timeout is None else (timeout or MOST) / 1000,
            "queue_items": own.whole("max_queue_size", 1),
            "batch_items": own.whole("max_export_batch_size", 1),
        }
        holds = entry["queue_items"] or DEFAULT_LIMITS.queue_items
        if (entry["batch_items"] or 0) > holds:
            own.problem(f"is above max_queue_size, {holds}", "max_export_batch_size")
    elif name == "simple":
        # Each span alone and at once, but never on the thread that ends it.
        entry = {"batch_age": 0.0, "batch_items": 1}
    else:
        section.note("what it would do to spans does not happen", name)
        return
    exporter = own.section("exporter").one()
    own.rest("it has no effect")
    if exporter is None:
        return
    kind_, options = exporter
    made = _exporter(kind_, options, own)
    if made is not None:
        label = made["type"] if kind_ == OURS else kind_.partition("_")[0]
        number = sum(other == label or other.startswith(f"{label}_") for other in exporters)
        exporters[label if not number else f"{label}_{number + 1}"] = {
            **{key: value for key, value in entry.items() if value is not None},
            **{key: value for key, value in made.items() if value is not None},
        }


def _exporter(kind: str, own: Section, processor: Section) -> dict[str, Any] | None:
    if kind == "console":
        own.rest("it has no effect")
        return {"type": "console", "stream": "stdout"}
    if kind in ("otlp_http", "otlp_grpc", "otlp"):
        return _otlp(kind, own)
    if kind in ("otlp_file/development", "otlp_file"):
        return _otlp_file(own)
    if kind == OURS:
        entry = {key: own.take(key) for key in own.names()}
        if not isinstance(entry.get("type"), str):
            own.problem("is missing; allowed: the type of an exporter of this package", "type")
            return None
        return entry
    processor.note("no such exporter is made", f"exporter.{kind}")
    return None


def _otlp(kind: str, own: Section) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "otlp"}
    protocol = own.text("protocol")
    encoding = own.text("encoding")
    if kind == "otlp_grpc" or protocol == "grpc":
        entry["protocol"] = "grpc"
    elif encoding == "json" or protocol == "http/json":
        entry["protocol"] = "http/json"
    elif encoding not in (None, "protobuf"):
        own.problem("is neither protobuf nor json", "encoding")
    tls = own.section("tls")
    is_insecure = tls.switch("insecure") or own.switch("insecure")
    if (endpoint := own.text("endpoint")) is not None:
        if "://" not in endpoint and entry.get("protocol") == "grpc":
            endpoint = f"{'http' if is_insecure else 'https'}://{endpoint}"
        if (problem := url_problem(endpoint)) is not None:
            own.problem(problem, "endpoint")
        # By the schema, the address over HTTP is the whole one of the signal.
        entry["endpoint" if entry.get("protocol") == "grpc" else "traces_endpoint"] = endpoint
    headers: dict[str, str] = own.parsed("headers_list", parse_pairs) or {}
    for each in own.sections("headers", named=True):
        name, value = each.text("name"), each.text("value")
        if name is None:
            each.problem("has no name")
        elif value is not None:
            headers[name] = value
    if not (all(map(is_header_name, headers)) and all(map(is_header_value, headers.values()))):
        own.problem("holds a header that cannot be sent", "headers")
    if headers:
        entry["headers"] = {name.lower(): SecretStr(value) for name, value in headers.items()}
    if (compression := own.text("compression")) is not None:
        if compression not in ("gzip", "none"):
            own.problem("is neither gzip nor none", "compression")
        entry["compression"] = compression
    if (timeout := own.whole("timeout")) is not None:
        entry["timeout"] = (timeout or MOST) / 1000
    # The second of each is that of release candidates of the format, beside `tls` of those before them.
    for key, names in (
        ("ca_file", ("ca_file", "certificate_file", "certificate")),
        ("client_certificate", ("cert_file", "client_certificate_file", "client_certificate")),
        ("client_key", ("key_file", "client_key_file", "client_key")),
    ):
        entry[key] = tls.text(*names[:2]) or own.text(*names[1:])
    tls.rest("connections are verified")
    own.rest("it has no effect")
    return entry


def _otlp_file(own: Section) -> dict[str, Any] | None:
    target = own.text("output_stream") or "stdout"
    own.rest("it has no effect")
    parts = urlsplit(target)
    if parts.scheme != "file" or not parts.path:
        own.note("only file:///path is, so that no such exporter is made", "output_stream")
        return None
    return {"type": "file", "format": "otlp_json", "path": unquote(parts.path)}
