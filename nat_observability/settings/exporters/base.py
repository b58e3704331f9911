"""ExporterSettings: the settings of every exporter, of any type, and the kinds of values that several types have."""

# Annotations are evaluated here, not postponed: some versions of pydantic evaluate the text of a model's annotation for
# extra settings again in the module of a subclass, where the names do not exist.
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator
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
    if isinstance(value, str) and value and not value.strip():
        raise ValueError("is blank; allowed: a path, such as var/observability.sqlite3")
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
