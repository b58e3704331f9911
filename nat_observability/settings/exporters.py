"""The settings of exporters: those of every exporter, of each local type, and of custom types."""

# Annotations are evaluated here, not postponed: some versions of pydantic evaluate the text of a model's annotation for
# extra settings again in the module of a subclass, where the names do not exist.
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Secret,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nat_observability.delivery.limits import QueuePolicy, SpoolMode
from nat_observability.settings.processing import ProcessingSettings, name_list
from nat_observability.settings.standard_variables.opentelemetry import DEFAULT_LIMITS, MOST, unquoted
from nat_observability.settings.variables import Allowed
from nat_observability.system.disk import is_file_path

# Some platforms cannot wait longer than about 24 days, which in milliseconds fill 31 bits.
_LONGEST = MOST / 1000

Count = Annotated[int, Field(ge=1, le=MOST)]
Bytes = Annotated[int, Field(ge=1, le=2**53)]
Seconds = Annotated[float, Field(gt=0, le=_LONGEST, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("starts with a home directory that does not exist") from None


_DIALECTS = ("genai", "langfuse", "openinference")

DialectNames = Annotated[
    tuple[str, ...],
    BeforeValidator(name_list(_DIALECTS)),
    Field(min_length=1),
    Allowed(f"{', '.join(_DIALECTS)}, with commas between them"),
]
"""The names of dialects, as a list or as a text with commas between them."""


def _local(value: object) -> object:
    if isinstance(value, str) and value and not is_file_path(value):
        raise ValueError(
            "is not a path of a file: write it without a scheme, as in var/observability.sqlite3"
        )
    return value


FilePath = Annotated[Path, BeforeValidator(_local), AfterValidator(_expanded)]


def _no_steps(record: object, info: ValidationInfo) -> object:
    if record == "steps":
        kind = info.data.get("type")
        raise ValueError(f"cannot be steps, which an exporter of type {kind} does not take; allowed: spans")
    return record


SpansOnly = Annotated[Literal["spans"], BeforeValidator(_no_steps)]


_RUNS = (
    "name=value pairs with commas between them, as in tenant=acme or tenant=acme,globex,user_id=u-*; or the same as a "
    "JSON object"
)


def _selected(value: object) -> object:
    """Read pairs, whose values may be lists: `tenant=acme,globex,user_id=u-1`."""
    if isinstance(value, str):
        pairs: dict[str, list[str]] = {}
        name = ""
        for member in value.split(","):
            head, equals, text = (part.strip() for part in member.partition("="))
            if equals:
                name = unquoted(head)
            elif not head:
                continue
            if not name or ";" in member or text.startswith("="):
                raise ValueError(f"holds a member that is not name=value; allowed: {_RUNS}")
            pairs.setdefault(name, []).append(unquoted(text if equals else head))
        value = pairs
    if not isinstance(value, Mapping):
        return value
    wanted: dict[object, object] = {}
    for name, texts in value.items():
        listed = [part.strip() for part in texts.split(",")] if isinstance(texts, str) else texts
        if not isinstance(listed, list | tuple) or not all(isinstance(each, str) and each for each in listed):
            raise ValueError(f"holds a name without a value, which would select nothing; allowed: {_RUNS}")
        wanted[name] = tuple(listed)
    return wanted


class ExporterSettings(ProcessingSettings):
    """The settings of every exporter, of any type."""

    type: Text = Field(
        description="What kind of exporter it is.", examples=["sqlite", "otlp", "file", "console"]
    )
    required: bool = Field(default=False, description="Whether a run fails to start if this exporter does.")
    record: Literal["spans", "steps"] = Field(
        default="spans",
        description="What it receives: finished spans, or every step's start, chunks and end.",
    )
    select: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_selected), Allowed(_RUNS)] = Field(
        default_factory=dict,
        description="Which runs it takes part in, by their tags, user_id, conversation_id or workflow_name; by default "
        "all. All names have to match, and of each one of its values, exact or with * and ?.",
    )
    flush: Literal["handed_over", "delivered"] = Field(
        default="handed_over", description="What the end of a run waits for: the queue, or the back end."
    )
    queue_items: Count = Field(
        default=DEFAULT_LIMITS.queue_items,
        description="Items in the queue at most. Without it, OTEL_BSP_MAX_QUEUE_SIZE is honoured.",
    )
    queue_bytes: Bytes = Field(default=DEFAULT_LIMITS.queue_bytes, description="Bytes in the queue at most.")
    queue_policy: QueuePolicy = Field(
        default=DEFAULT_LIMITS.queue_policy,
        description="What is dropped, and counted, when the queue is full.",
    )
    batch_items: Count = Field(
        default_factory=lambda validated: min(
            DEFAULT_LIMITS.batch_items, validated.get("queue_items", DEFAULT_LIMITS.batch_items)
        ),
        description="Items in one batch at most; no more than queue_items. "
        "Without it, OTEL_BSP_MAX_EXPORT_BATCH_SIZE is honoured.",
    )
    batch_bytes: Bytes = Field(
        default=DEFAULT_LIMITS.batch_bytes,
        description="Bytes in one batch at most; a larger item goes alone.",
    )
    batch_age: Annotated[float, Field(ge=0, le=_LONGEST, allow_inf_nan=False)] = Field(
        default=DEFAULT_LIMITS.batch_age,
        description="Seconds that an item waits at most for its batch to fill; 0 sends at once. "
        "Without it, OTEL_BSP_SCHEDULE_DELAY (milliseconds) is honoured.",
    )
    write_timeout: Seconds = Field(
        default=DEFAULT_LIMITS.write_timeout,
        description="Seconds that one write of a batch may take. "
        "Without it, OTEL_BSP_EXPORT_TIMEOUT (milliseconds) is honoured.",
    )

    batches_in_flight: Annotated[int, Field(ge=1, le=64)] = Field(
        default=DEFAULT_LIMITS.batches_in_flight,
        description="Number of batches sent at the same time at most; a file or database gets one at a time.",
    )
    retry_initial: Seconds = Field(
        default=DEFAULT_LIMITS.retry_initial,
        description="Seconds from a failed try to the next at most; doubled with each further failure.",
    )
    retry_max: Seconds = Field(
        default=DEFAULT_LIMITS.retry_max, description="Seconds between two tries at most."
    )
    retry_for: Annotated[float, Field(ge=0, le=_LONGEST, allow_inf_nan=False)] = Field(
        default=DEFAULT_LIMITS.retry_for,
        description="Seconds for which a batch is retried; 0 tries once. A spooled batch is kept after that.",
    )
    breaker_failures: Count = Field(
        default=DEFAULT_LIMITS.breaker_failures,
        description="Number of failed tries in a row that open the circuit breaker: nothing is sent for a while.",
    )
    breaker_open_for: Seconds = Field(
        default=DEFAULT_LIMITS.breaker_open_for,
        description="Seconds that the breaker stays open; then one batch is tried.",
    )
    spool: SpoolMode = Field(
        default=DEFAULT_LIMITS.spool,
        description="Whether items go to the disk before they are sent: never, when the queue is half full or the "
        "process ends, or all of them before their run ends.",
    )
    spool_path: FilePath | None = Field(
        default=DEFAULT_LIMITS.spool_path,
        description="The spool's directory, for this exporter alone.",
        examples=["var/spool/otlp"],
    )
    spool_bytes: Bytes = Field(
        default=DEFAULT_LIMITS.spool_bytes, description="Bytes in the spool at most; the oldest are dropped."
    )
    spool_age: Seconds | None = Field(
        default=DEFAULT_LIMITS.spool_age,
        description="Seconds that an item stays in the spool at most; without it, forever.",
    )

    @model_validator(mode="after")
    def _has_a_place_to_spool(self) -> Self:
        if self.spool != "off" and self.spool_path is None:
            raise PydanticCustomError(
                "missing_sibling", "needs spool_path", {"sibling": "spool_path", "of": "spool"}
            )
        return self

    @field_validator("batch_items")
    @classmethod
    def _fits_the_queue(cls, batch_items: int, info: ValidationInfo) -> int:
        if batch_items > info.data.get("queue_items", batch_items):
            raise PydanticCustomError("above_sibling", "above queue_items", {"sibling": "queue_items"})
        return batch_items


class MemoryExporterSettings(ExporterSettings):
    """Keeps items in the process's memory."""

    type: Literal["memory"] = Field(default="memory", description="Keeps items in this process's memory.")
    limit: Count = Field(default=10_000, description="Items kept at most; the oldest goes first.")


class ConsoleExporterSettings(ExporterSettings):
    """Prints items to a stream of the process."""

    type: Literal["console"] = Field(default="console", description="Prints items for people to read.")
    stream: Literal["stdout", "stderr"] = Field(default="stderr", description="Where it prints.")
    color: Literal["auto", "always", "never"] = Field(
        default="auto", description="Whether the output is coloured; auto colours it on a terminal."
    )


class FileExporterSettings(ExporterSettings):
    """Appends items to a file, as JSON lines of ours or of OTLP."""

    type: Literal["file"] = Field(
        default="file", description="Appends items to a file, one JSON object a line."
    )
    path: FilePath = Field(description="The file.", examples=["var/observability.jsonl"])
    max_bytes: Bytes = Field(
        default=100 * 2**20, description="Bytes at which the file rolls over to path.1, path.2 and so on."
    )
    backups: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=5, description="Number of rolled files to keep."
    )
    dialect: DialectNames = Field(
        default=("genai", "openinference"), description="In which words OTLP has the spans."
    )
    format: Literal["jsonl", "otlp_json"] = Field(
        default="jsonl",
        description="What a line is: an item as it was recorded, or an OTLP request of many spans as JSON, which "
        "collectors read.",
    )

    @field_validator("format")
    @classmethod
    def _carries_what_is_recorded(cls, format: str, info: ValidationInfo) -> str:  # noqa: A002
        if format == "otlp_json" and info.data.get("record") == "steps":
            raise ValueError(
                "cannot be otlp_json if RECORD is steps, which OTLP does not carry; allowed: jsonl"
            )
        return format


class SqliteExporterSettings(ExporterSettings):
    """Stores spans in an SQLite file, which the command and `Store` read."""

    type: Literal["sqlite"] = Field(
        default="sqlite", description="Stores spans in an SQLite file, which the command and Store read."
    )
    path: FilePath = Field(description="The database file.", examples=["var/observability.sqlite3"])
    record: SpansOnly = Field(
        default="spans", description="What it gets: finished spans; it cannot record steps."
    )
    synchronous: Literal["normal", "full", "off"] = Field(
        default="normal",
        description="What a batch survives: normal the end of the process, full a power cut too; "
        "with off, a power cut can damage the file.",
    )
    keep_for: Annotated[float, Field(gt=0, le=3_155_760_000, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Seconds after its end for which a run is kept; by default for ever.",
        examples=[604800],
    )
    keep_size: Annotated[int, Field(ge=64 * 1024, le=2**53)] | None = Field(
        default=None,
        description="Bytes that the store may hold; whole finished runs go when it is more, the oldest first. By "
        "default it may grow for ever.",
        examples=[1073741824],
    )


class MetricsExporterSettings(ExporterSettings):
    """Records the durations and tokens of finished spans as OpenTelemetry metrics."""

    type: Literal["metrics"] = Field(
        default="metrics",
        description="Records durations and tokens as the GenAI conventions' metrics, by the application's meter "
        "provider; of every run, whatever the sampling of others leaves out.",
    )
    record: SpansOnly = Field(
        default="spans", description="What it gets: finished spans; it cannot record steps."
    )
    # Content is never looked at, so it need not be searched for secrets.
    redact: bool = Field(default=False, description="Whether secrets are redacted; no content is measured.")
    capture_inputs: bool = Field(default=False, description="Whether inputs reach it; it does not need them.")
    capture_outputs: bool = Field(
        default=False, description="Whether outputs reach it; it does not need them."
    )

    @model_validator(mode="before")
    @classmethod
    def _takes_every_run(cls, data: object) -> object:
        # That of the process is for what is sent: a number of calls would be wrong without the others.
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if not str(name).startswith("sampling_")}


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return str(value) if isinstance(value, SecretStr | Secret) else value


class CustomExporterSettings(ExporterSettings):
    """
    An exporter of a type that the embedding service or an entry point adds.

    The container checks whether the type exists. Its own settings are kept as they came, text from variables as text.
    What looks like a secret, by its name or as part of a URL or a connection string, is wrapped, so that no repr, dump
    or log shows it.
    """

    model_config = ConfigDict(extra="allow")
    # Without it, some versions of pydantic cannot write a secret of an undeclared type as JSON.
    __pydantic_extra__: dict[str, Annotated[Any, PlainSerializer(_masked, when_used="json")]]

    def options(self) -> dict[str, Any]:
        """Return the entry's own settings with secrets in the clear, for the type's model to validate."""
        return {name: _opened(value) for name, value in (self.model_extra or {}).items()}

    @model_validator(mode="before")
    @classmethod
    def _seal_secrets(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        return {k: v if k in cls.model_fields else _sealed(str(k), v, secret=False) for k, v in data.items()}


# Deliberately wide: sealing a name without need costs nothing, missing one is a leak.
_WORDS = "key|token|secret|pass|pwd|authorization|header|credential|cookie|dsn"
_SECRET_NAME = re.compile(_WORDS, re.IGNORECASE)
_SECRET_VALUE = re.compile(rf"://\S*@|({_WORDS})[^=\s]*=", re.IGNORECASE)


def _sealed(name: str, value: Any, *, secret: bool) -> Any:
    secret = secret or _SECRET_NAME.search(name) is not None
    if isinstance(value, Mapping):
        return {key: _sealed(str(key), inner, secret=secret) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_sealed(name, inner, secret=secret) for inner in value]
    if isinstance(value, str):
        return SecretStr(value) if secret or _SECRET_VALUE.search(value) else value
    return Secret(value) if secret and not isinstance(value, bool | None | SecretStr | Secret) else value


def _opened(value: Any) -> Any:
    if isinstance(value, SecretStr | Secret):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: _opened(inner) for key, inner in value.items()}
    return [_opened(inner) for inner in value] if isinstance(value, list) else value
