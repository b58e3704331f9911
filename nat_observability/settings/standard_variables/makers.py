"""The variables of the back ends' makers, such as `LANGFUSE_*`, for exporters of that type; ours win."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import SecretStr

from nat_observability.errors import SettingsError
from nat_observability.settings.presets import PRESETS
from nat_observability.settings.standard_variables.opentelemetry import DEFAULT_LIMITS, StandardReader
from nat_observability.validation import is_header_value, url_problem


def _address(text: str) -> str:
    if problem := url_problem(text.strip()):
        raise ValueError(problem)
    return text.strip()


def _secret(text: str) -> SecretStr:
    if not is_header_value(text.strip()):
        raise ValueError("holds a character that no header can, such as a line break")
    return SecretStr(text.strip())


def _seconds(text: str) -> float:
    return _number(text, "a positive number of seconds", lambda number: 0 < number < 1e6)


def _ratio(text: str) -> float:
    return _number(text, "a number from 0 to 1", lambda number: 0 <= number <= 1)


def _count(text: str) -> int:
    return int(_number(text, "a positive whole number", lambda number: number >= 1 and number == int(number)))


def _number(text: str, words: str, is_fit: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not (number == number and abs(number) != float("inf") and is_fit(number)):
        raise ValueError(f"is not {words}")
    return number


def _site(text: str) -> str:
    if not _HOST.fullmatch(text.strip()):
        raise ValueError("is not the name of a site, such as datadoghq.eu")
    return text.strip()


def _hidden(text: str) -> bool:
    """Whether what a switch hides is captured all the same."""
    return text.strip().lower() not in ("true", "1", "yes", "on")


def _traces_of_wandb(text: str) -> str | None:
    """Return where a server of W&B takes traces, as its own client has it; None for the maker's service."""
    address = _address(text).rstrip("/")
    return None if address == "https://api.wandb.ai" else f"{address}/traces"


class MakerVariable(NamedTuple):
    """The setting that the first of these variables stands in for, and how its text is read."""

    setting: str
    names: tuple[str, ...]
    parse: Callable[[str], Any]


_PARSERS: Mapping[str, Callable[[str], Any]] = {"endpoint": _address, "api_key": _secret}

# A key that is the only thing to tell where spans go does not follow an address of our own settings.
_ADDRESSES = ("endpoint", "host")
_SECRETS = frozenset({"api_key", "public_key", "secret_key", "account"})

# Without an address these are servers of one's own, which run beside the application.
_LOCAL = frozenset({"phoenix", "mlflow"})
_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", re.ASCII)

_MORE: Mapping[str, tuple[MakerVariable, ...]] = {
    "phoenix": (
        MakerVariable("endpoint", ("PHOENIX_COLLECTOR_ENDPOINT",), _address),
        MakerVariable("api_key", ("PHOENIX_API_KEY",), _secret),
        MakerVariable("project", ("PHOENIX_PROJECT_NAME", "PHOENIX_PROJECT"), str.strip),
    ),
    "langfuse": (
        MakerVariable("host", ("LANGFUSE_BASE_URL", "LANGFUSE_HOST"), _address),
        MakerVariable("public_key", ("LANGFUSE_PUBLIC_KEY",), _secret),
        MakerVariable("secret_key", ("LANGFUSE_SECRET_KEY",), _secret),
        MakerVariable("environment", ("LANGFUSE_TRACING_ENVIRONMENT",), str.strip),
        MakerVariable("release", ("LANGFUSE_RELEASE",), str.strip),
        MakerVariable("sampling_ratio", ("LANGFUSE_SAMPLE_RATE",), _ratio),
        MakerVariable("timeout", ("LANGFUSE_TIMEOUT",), _seconds),
        MakerVariable("batch_items", ("LANGFUSE_FLUSH_AT",), _count),
        MakerVariable("batch_age", ("LANGFUSE_FLUSH_INTERVAL",), _seconds),
    ),
    "langsmith": (
        # Its client looks for each of them under both prefixes.
        MakerVariable(
            "sampling_ratio", ("LANGSMITH_TRACING_SAMPLING_RATE", "LANGCHAIN_TRACING_SAMPLING_RATE"), _ratio
        ),
        MakerVariable("capture_inputs", ("LANGSMITH_HIDE_INPUTS", "LANGCHAIN_HIDE_INPUTS"), _hidden),
        MakerVariable("capture_outputs", ("LANGSMITH_HIDE_OUTPUTS", "LANGCHAIN_HIDE_OUTPUTS"), _hidden),
    ),
    "weave": (
        MakerVariable("endpoint", ("WF_TRACE_SERVER_URL",), _address),
        MakerVariable("endpoint", ("WANDB_BASE_URL",), _traces_of_wandb),
    ),
    "mlflow": (
        MakerVariable("sampling_ratio", ("MLFLOW_TRACE_SAMPLING_RATIO",), _ratio),
        MakerVariable("timeout", ("MLFLOW_HTTP_REQUEST_TIMEOUT",), _seconds),
    ),
}

MAKER_VARIABLES: Mapping[str, tuple[MakerVariable, ...]] = {
    **{
        kind: tuple(
            MakerVariable(setting, names, _PARSERS.get(setting, str.strip))
            for setting, names in row.variables.items()
        )
        + _MORE.get(kind, ())
        for kind, row in PRESETS.items()
    },
    **{kind: rows for kind, rows in _MORE.items() if kind not in PRESETS},
}
"""Those that are honoured, by the type of the exporter."""

IGNORED: Mapping[str, Mapping[str, str]] = {
    "phoenix": {
        "PHOENIX_CLIENT_HEADERS": "use an exporter of type otlp with HEADERS",
        "PHOENIX_GRPC_PORT": "spans are sent over HTTP",
    },
    "langfuse": {
        "LANGFUSE_TRACING_ENABLED": "NAT_OBSERVABILITY_ENABLED switches recording",
        "LANGFUSE_DEBUG": "NAT_OBSERVABILITY_LOG_LEVEL chooses the log lines",
    },
    "langsmith": {
        **dict.fromkeys(
            ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2"),
            "NAT_OBSERVABILITY_ENABLED switches recording",
        ),
        **dict.fromkeys(
            ("LANGSMITH_HIDE_METADATA", "LANGCHAIN_HIDE_METADATA"),
            "NAT_OBSERVABILITY_REDACT_KEYS names what is withheld",
        ),
    },
    "mlflow": {
        "MLFLOW_EXPERIMENT_NAME": "OTLP needs the experiment's id: set MLFLOW_EXPERIMENT_ID",
        "MLFLOW_TRACKING_USERNAME": "set MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_PASSWORD": "set MLFLOW_TRACKING_TOKEN",
    },
}
"""Those that are known and ignored, by the type of the exporter, and what to do instead."""


def maker_defaults(
    kind: str, variables: Mapping[str, str | None], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """
    Return what a maker's variables add to an exporter of this type, and a sentence for each that is ignored.

    An exporter with an address of its own gets none of the keys: they belong to the address of the variables. If that
    one is not valid, they go nowhere.

    Args:
        kind: The exporter's type.
        variables: Names in lower case, and values; an empty value is an unset one.
        given: The exporter's settings that are already set.

    Raises:
        SettingsError: An address is not valid, and without it spans and keys would go to the maker's own service.
    """
    reader = StandardReader(variables)
    has_own_address = any(given.get(name) for name in _ADDRESSES)
    found: dict[str, Any] = {}
    for setting, names, parse in MAKER_VARIABLES.get(kind, ()):
        if setting in given:
            continue
        if has_own_address and setting in _SECRETS:
            reader.ignored += _withheld(kind, setting, names, variables)
            continue
        if found.get(setting) is None:
            found[setting] = reader.first(parse, *names)
    site = PRESETS[kind].site if kind in PRESETS else None  # type: ignore[index]
    if site is not None and not has_own_address and found.get("endpoint") is None:
        variable, form = site
        found["endpoint"] = reader.first(lambda text: _address(form.format(_site(text))), variable)
    if not has_own_address and not any(found.get(name) for name in _ADDRESSES):
        wrong = _wrong_addresses(kind, reader)
        if wrong and kind not in _LOCAL:
            raise SettingsError([f"{each.removesuffix('.')}: correct it, or unset it." for each in wrong])
        if wrong:
            found = {setting: value for setting, value in found.items() if setting not in _SECRETS}
    if (asked := found.get("batch_items")) and (most := _queue_items(given)) and asked > most:
        reader.ignored.append(f"LANGFUSE_FLUSH_AT is above what the queue holds, {most}.")
        del found["batch_items"]
    for name, cure in IGNORED.get(kind, {}).items():
        if variables.get(name.lower()):
            reader.ignored.append(f"{name} is known and not used: {cure}.")
    return {key: value for key, value in found.items() if value not in (None, "")}, reader.ignored


def _withheld(
    kind: str, setting: str, names: tuple[str, ...], variables: Mapping[str, str | None]
) -> list[str]:
    """Return a sentence if a key stays unused that an exporter with an address of its own was most likely to get."""
    set_ones = [name for name in names if variables.get(name.lower())]
    addresses = _address_variables(kind)
    # A key that is missing where one is needed is an error, which names the variable as well.
    if not set_ones or not addresses or setting in _needed(kind):
        return []
    if any(variables.get(name.lower()) for name in addresses):  # then it is plain what the key is for
        return []
    return [
        f"{set_ones[0]} goes to the address of {addresses[0]} alone: set {setting.upper()} beside the address."
    ]


def maker_variable(kind: object, setting: object) -> str | None:
    """Return the variable of the environment that would stand in for a key, were the address not one of ours."""
    rows = MAKER_VARIABLES.get(kind, ()) if isinstance(kind, str) else ()
    names = [name for row in rows if row.setting == setting and setting in _SECRETS for name in row.names]
    return next((name for name in names if os.environ.get(name)), None)


def _needed(kind: str) -> tuple[str, ...]:
    if kind in PRESETS:
        return PRESETS[kind].required  # type: ignore[index]
    return ("public_key", "secret_key") if kind == "langfuse" else ()


def _address_variables(kind: str) -> list[str]:
    """Return the names of the variables that hold its address."""
    names = [name for row in MAKER_VARIABLES.get(kind, ()) if row.setting in _ADDRESSES for name in row.names]
    if kind in PRESETS and (site := PRESETS[kind].site) is not None:  # type: ignore[index]
        names.append(site[0])
    return names


def _wrong_addresses(kind: str, reader: StandardReader) -> list[str]:
    """Return what was said about variables that hold its address."""
    names = _address_variables(kind)
    return [each for each in reader.ignored if each.partition(" ")[0] in names]


def _queue_items(given: Mapping[str, Any]) -> int | None:
    """Return how many items the queue holds; None if validation has to say what is wrong with it."""
    try:
        return int(given.get("queue_items", DEFAULT_LIMITS.queue_items))
    except (TypeError, ValueError):
        return None
