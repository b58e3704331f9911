"""target_of(): where an exporter with a preset sends, and with which headers and resource; from its row of data."""

from __future__ import annotations

import base64
import string
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from nat_observability.settings import PresetExporterSettings
from nat_observability.sinks.otlp.options import TRACES_PATH
from nat_observability.validation import secret_text


@dataclass(frozen=True, slots=True)
class PresetTarget:
    """The arguments of an OTLP sink for one exporter; the headers are secret."""

    traces_endpoint: str
    headers: Mapping[str, SecretStr]
    resource: Mapping[str, str]


def target_of(own: PresetExporterSettings) -> PresetTarget:
    """Return what the back end's maker asks for, with the exporter's key, project and account filled in."""
    row = own.preset
    given: dict[str, str] = {}
    for name, value in (("api_key", own.api_key), ("project", own.project), ("account", own.account)):
        if value is not None:
            given[name] = secret_text(value)
    if "api_key" in given and "account" in given:
        pair = f"{given['account']}:{given['api_key']}".encode()
        given["basic"] = base64.b64encode(pair).decode()
    # A row without an address of its own requires one.
    address = secret_text(own.endpoint or row.endpoint or "")
    return PresetTarget(
        _traces_address(address, row.path, row.traces_path),
        {name: SecretStr(text) for name, text in _filled(row.headers, given).items()},
        _filled(row.resource, given),
    )


def _traces_address(address: str, path: str, traces_path: str | None) -> str:
    parts = urlsplit(address)
    found = parts.path.rstrip("/")
    whole = traces_path or TRACES_PATH
    if not found.endswith(whole):
        if traces_path is None:
            # The address of a gRPC exporter, which makers show beside the one for HTTP.
            found = found.removesuffix("/v1") if not path else found
            found = found if found.endswith(path) else found + path
        found += whole
    return parts._replace(path=found, fragment="").geturl()


def _filled(templates: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the templates with their settings; those with one that is not set are left out."""
    return {
        name: template.format_map(given)
        for name, template in templates.items()
        if all(field in given for _, field, _, _ in string.Formatter().parse(template) if field)
    }
