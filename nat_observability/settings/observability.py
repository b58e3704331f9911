"""The settings of a process: a frozen model, read from the environment, an env file and secret files."""

# Annotations are evaluated here, not postponed, as in exporters/base.py.
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from nat_observability.errors import InvalidExporterNameError, SettingsError, SettingsWarning
from nat_observability.propagation.formats import CONVERSATION_KEYS, PROPAGATORS, USER_KEYS
from nat_observability.resource import DETECTORS, ResourceValue, detected
from nat_observability.settings.env_file import note_exporters, with_env_file
from nat_observability.settings.error_messages import problems
from nat_observability.settings.exporters.base import ExporterSettings, FilePath, Seconds, Text
from nat_observability.settings.exporters.models import BUILT_IN, MODELS, AnyExporterSettings
from nat_observability.settings.likely_mistakes import likely_mistakes
from nat_observability.settings.processing import ProcessingSettings, Texts, name_list
from nat_observability.settings.sources import VariablesSource
from nat_observability.settings.standard_variables.opentelemetry import MOST, SERVICE_NAME
from nat_observability.settings.variables import DELIMITER, EXPORTERS, PREFIX, variable

if TYPE_CHECKING:
    from nat_observability.settings.exporters import FileExporterSettings, SqliteExporterSettings

    _WithFile = FileExporterSettings | SqliteExporterSettings

__all__ = [
    "BUILT_IN",
    "AnyExporterSettings",
    "EnvFile",
    "ExporterSettings",
    "ObservabilitySettings",
]

# In names of tags: what other lists than ours are written with.
_NOT_IN_TAGS = re.compile(r"""[\s*?\[\]{};='"\x00-\x1f\x7f]""")

EnvFile = str | Path | Sequence[str | Path]
"""One env file, or several of which the later ones win."""


def _for_type(shared: Mapping[str, Any], entry: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what an exporter takes from the process: not that for which its type has a default of its own."""
    own = BUILT_IN.get(str(entry.get("type")), ExporterSettings).__annotations__
    return {key: value for key, value in shared.items() if key not in own}


def _in_lower_case(entry: object) -> object:
    """Return an entry with its names as variables have them: a type of the application's may distinguish case."""
    if not isinstance(entry, Mapping) or all(str(key).islower() for key in entry):
        return entry
    named = {"type" if str(key).lower() == "type" else key: value for key, value in entry.items()}
    kind = named.get("type")
    if not isinstance(kind, str) or kind not in BUILT_IN:
        return named
    return {str(key).lower(): value for key, value in named.items()}


def _is_device(path: str | os.PathLike[str]) -> bool:
    """Return whether it is there and holds nothing, as /dev/null or a terminal."""
    return os.path.exists(path) and not os.path.isfile(path)


def _place(path: Path) -> object:
    """Return a key that is equal for two paths of one directory, whether it exists or not."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


class ObservabilitySettings(ProcessingSettings, BaseSettings):
    """
    All settings of a process.

    Arguments win over the environment, the environment over the env file, that over the secret files in `secrets_dir`,
    and all of them over the standard `OTEL_` variables. The argument `_env_file`, or else the variable
    `NAT_OBSERVABILITY_ENV_FILE`, names the env file. An exporter passed as an object is taken as it is: neither
    variables nor `OTEL_BSP_*` nor settings of the process change it.

    Raises:
        SettingsError: A value is wrong, or the env file cannot be read. It has one line per problem, and never shows
            the value.

    Warns:
        SettingsWarning: A `NAT_OBSERVABILITY_` variable is unknown, or an `OTEL_` variable is not valid; both are
            ignored, the latter as the OpenTelemetry specification requires. Or a value can hardly be meant, such as a
            timeout of 20000 seconds; it counts.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    enabled: bool = Field(
        default=True,
        description="Whether anything is recorded. Without it, OTEL_SDK_DISABLED=true turns recording off.",
    )
    service_name: Text = Field(
        default="unknown_service",
        description="The name of this service. Without it, OTEL_SERVICE_NAME is honoured, and then service.name in "
        "OTEL_RESOURCE_ATTRIBUTES.",
    )
    resource_attributes: dict[str, ResourceValue] = Field(
        default_factory=dict,
        description="Further attributes of this service, added to OTEL_RESOURCE_ATTRIBUTES.",
    )
    resource_schema_url: Text | None = Field(
        default=None,
        description="The schema URL of these attributes, which OTLP has beside them.",
        examples=["https://opentelemetry.io/schemas/1.37.0"],
    )
    capture_node_limit: Annotated[int, Field(ge=1_000, le=MOST)] = Field(
        default=100_000,
        description="Number of values that recording one input or output visits at most, fewer of those that take "
        "longer than a number in a list. For the whole process.",
    )
    capture_bytes_limit: Annotated[int, Field(ge=16 * 1024, le=MOST)] = Field(
        default=2**20,
        description="Bytes that are kept of one input or output at most; the rest is marked with its size. For the "
        "whole process.",
    )
    resource_detectors: Annotated[tuple[str, ...], BeforeValidator(name_list(DETECTORS))] = Field(
        default=(),
        description="What is found out about this process and added to its resource attributes, where those do not "
        "say it. Without it, OTEL_EXPERIMENTAL_RESOURCE_DETECTORS is honoured.",
        examples=["process,host,os,container,service_instance"],
    )
    propagators: Annotated[tuple[str, ...], BeforeValidator(name_list((*PROPAGATORS, "none")))] = Field(
        default=("tracecontext", "baggage"),
        description="The formats of the headers in which a trace travels; of several that a request has, the last one "
        "counts. For the whole process. Without it, OTEL_PROPAGATORS is honoured.",
        examples=["tracecontext,baggage,b3,b3multi", "none"],
    )
    log_level: Literal["debug", "info", "warning", "error", "none"] | None = Field(
        default=None,
        description="The level from which on this package's own log lines are written; without it, the application's "
        "logging decides. Without it, OTEL_LOG_LEVEL is honoured.",
    )
    start_timeout: Seconds = Field(default=10.0, description="Seconds in which an exporter has to be ready.")
    shutdown_timeout: Seconds = Field(
        default=20.0, description="Seconds in which everything has to be stopped."
    )
    secrets_dir: Path | None = Field(
        default=None,
        description="A directory of files, each named after a variable and holding its value.",
    )
    prices: FilePath | None = Field(
        default=None,
        description="A TOML file of prices per million tokens, by model: each model call then has its cost.",
        examples=["prices.toml"],
    )
    propagate_tags: Texts = Field(
        (),
        description="Names of run tags that travel, as W3C baggage, to the services and workers that a run calls, and "
        "become tags of their runs if they propagate them too.",
        examples=["tenant,plan"],
    )
    exporters: dict[str, AnyExporterSettings] = Field(
        default_factory=dict, description="The exporters by name; names are in lower case."
    )

    if TYPE_CHECKING:  # also for a type checker that knows nothing of pydantic

        def __init__(
            self,
            *,
            enabled: bool = ...,
            service_name: str = ...,
            resource_attributes: Mapping[str, ResourceValue] = ...,
            resource_schema_url: str | None = ...,
            start_timeout: float = ...,
            shutdown_timeout: float = ...,
            secrets_dir: str | Path | None = ...,
            exporters: Mapping[str, ExporterSettings | Mapping[str, Any]] = ...,
            _env_file: EnvFile | None = ...,
            **processing: Any,
        ) -> None: ...

    else:

        def __init__(self, **values: Any) -> None:
            values = with_env_file(values, type(self).model_config.get("env_file"))
            try:
                super().__init__(**values)
            except ValidationError as error:
                lines = problems(error, type(self), MODELS)
            except UnicodeDecodeError:
                lines = ["The env file is not UTF-8 text."]
            except OSError as error:
                lines = [f"The env file cannot be read: {error.strerror}."]
            else:
                if self.exporters:
                    note_exporters()
                for note in likely_mistakes(self):
                    warnings.warn(note, SettingsWarning, stacklevel=2)
                return
            # Outside the handlers: the cause holds the values, and would travel along as the error's context.
            raise SettingsError(lines)

    @property
    def resource(self) -> dict[str, ResourceValue]:
        """
        The attributes of the OpenTelemetry resource: `resource_attributes`, and the name as `service.name`.

        Also what `resource_detectors` find out where these do not say it, and `telemetry.sdk.*`.
        """
        return {
            **detected(self.resource_detectors),
            **self.resource_attributes,
            SERVICE_NAME: self.service_name,
        }

    @field_validator("resource_attributes")
    @classmethod
    def _without_service_name(cls, attributes: dict[str, ResourceValue]) -> dict[str, ResourceValue]:
        # Already used for `service_name`, which is the only place for the name.
        return {key: value for key, value in attributes.items() if key != SERVICE_NAME}

    @field_validator("propagate_tags")
    @classmethod
    def _are_names_of_tags(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if any(map(_NOT_IN_TAGS.search, names)):
            raise ValueError(
                "holds something that is not the name of a tag; allowed: names with commas between them"
            )
        if reserved := sorted({*names} & {*CONVERSATION_KEYS, *USER_KEYS}):
            raise ValueError(
                f"holds {' and '.join(reserved)}, which travels anyway: as the conversation or the user of the run"
            )
        return names

    @field_validator("exporters", mode="before")
    @classmethod
    def _completed(cls, exporters: object, info: ValidationInfo) -> object:
        if not isinstance(exporters, Mapping):
            return exporters
        # What is not set for an exporter comes from the process; one that is passed as an object is complete.
        shared = {key: info.data[key] for key in ProcessingSettings.model_fields if key in info.data}
        lower = {
            str(name).strip().lower(): {**_for_type(shared, each), **each}
            if isinstance(each, Mapping)
            else each
            for name, entry in exporters.items()
            for each in (_in_lower_case(entry),)
        }
        if "" in lower:
            raise ValueError("holds an exporter without a name; allowed: names that are not empty")
        if any(map(InvalidExporterNameError.unusable.search, lower)):
            raise ValueError(
                "holds an exporter whose name is a path, a pattern or a list; allowed: letters, digits and - . _"
            )
        if len(lower) < len(exporters):
            raise ValueError("holds two exporters whose names differ in case only; allowed: one")
        return lower

    @field_validator("exporters")
    @classmethod
    def _each_has_a_file_of_its_own(
        cls, exporters: dict[str, AnyExporterSettings]
    ) -> dict[str, AnyExporterSettings]:
        paths = {
            name: cast("_WithFile", entry).path
            for name, entry in exporters.items()
            if entry.type == "file" or entry.type == "sqlite"
        }
        files: dict[object, str] = {}
        for name, path in paths.items() if len(paths) > 1 else ():
            other = files.setdefault(_place(path), name)
            both = (exporters[other], exporters[name])
            # Stores of different tenants may be one.
            shared = all(each.type == "sqlite" and each.select for each in both) or _is_device(path)
            if other != name and not shared:
                first, second = (variable(EXPORTERS, each, "path") for each in (other, name))
                raise ValueError(
                    f"holds exporters with one file: {first} and {second}; allowed: one for each"
                )
        return exporters

    @field_validator("exporters")
    @classmethod
    def _each_has_a_spool_of_its_own(
        cls, exporters: dict[str, AnyExporterSettings]
    ) -> dict[str, AnyExporterSettings]:
        # One would send what the other had left there to its own back end, under its own key.
        spools = {
            name: entry.spool_path
            for name, entry in exporters.items()
            if entry.spool != "off" and entry.spool_path is not None
        }
        groups: dict[object, list[str]] = {}
        for name, path in spools.items() if len(spools) > 1 else ():
            groups.setdefault(_place(path), []).append(name)
        for names in groups.values():
            if len(names) > 1:
                listed = " and ".join(variable(EXPORTERS, name, "spool_path") for name in names)
                raise ValueError(
                    f"holds exporters with one spool: {listed} are the same directory; allowed: one for each"
                )
        return exporters

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read variables as one source, so that they merge by name, wherever each of them is set."""
        variables: dict[str, str | None] = {}
        for source in (dotenv_settings, env_settings):
            assert isinstance(source, EnvSettingsSource)
            variables.update(source.env_vars)
        assert isinstance(dotenv_settings, EnvSettingsSource)
        return init_settings, VariablesSource(settings_cls, variables, dotenv_settings.env_vars)
