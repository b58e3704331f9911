"""The settings of what may leave the process: redaction, content, limits, sampling and tags; builds nothing."""

# Annotations are evaluated here, not postponed, as in exporters/base.py.
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from nat_observability.settings.standard_variables.opentelemetry import DEFAULT_LIMITS, MOST, parse_pairs
from nat_observability.settings.variables import PAIRS, Allowed
from nat_observability.system.fork_hooks import at_fork
from nat_observability.validation import secret_text

PERSONAL = ("email", "phone", "card", "iban", "ip")
KINDS = (
    "llm",
    "tool",
    "workflow",
    "task",
    "function",
    "custom",
    "span",
    "ttc",
    "agent",
    "retriever",
    "embedding",
    "reranker",
    "guardrail",
    "evaluator",
    "prompt",
    "chain",
)

_LABEL = re.compile(r"[a-z0-9_-]{1,40}")

Limit = Annotated[int, Field(ge=0, le=MOST)]
Size = Annotated[int, Field(ge=1, le=2**53)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _listed(value: object) -> object:
    """Split text at its commas; what is not text is left for validation."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def name_list(known: tuple[str, ...]) -> Callable[[object], object]:
    """Return what checks a list of names, or a text with commas between them, of which only these are known."""

    def check(value: object) -> object:
        given = _listed(value)
        if isinstance(given, list | tuple | set | frozenset):
            lower = tuple(str(each).lower() for each in given)
            # The wrong name is not shown: if a key was pasted into the wrong place, the name is the secret.
            if not set(lower) <= set(known):
                raise ValueError(f"holds a name that is not known; allowed: {', '.join(known)}")
            return lower
        return given

    return check


def _names(value: object) -> object:
    if isinstance(value, str) and ";" in value:
        raise ValueError("holds a name with a semicolon; allowed: names with commas between them")
    return _listed(value)


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Several texts, or one text with commas between them."""


def _paired(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_pairs(value)
    except ValueError as error:
        raise ValueError(f"{error}; allowed: {PAIRS}") from None


def _patterns(value: object) -> object:
    patterns = _paired(value)
    if isinstance(patterns, Mapping):
        for name, expression in patterns.items():
            if not _LABEL.fullmatch(str(name)):
                raise ValueError(
                    "holds a pattern whose name is not made of lower-case letters, digits, _ and -"
                )
            try:
                if isinstance(expression, str) and _matches_nothing(expression):
                    raise ValueError(f"holds the pattern {name}, which matches an empty text; write + for *")
            except (re.error, RecursionError, OverflowError) as error:
                # Without its message, which may show a part of the pattern.
                place = f" (character {error.pos})" if isinstance(error, re.error) else ""
                raise ValueError(f"holds the pattern {name}, which does not compile{place}") from None
    return patterns


def _matches_nothing(expression: str) -> bool:
    with warnings.catch_warnings():
        # What may change its meaning in a future Python keeps today's meaning.
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(expression).search("") is not None


def _ratios(value: object) -> object:
    rules = _paired(value)
    if not isinstance(rules, Mapping):
        return rules
    ratios: dict[Any, float] = {}
    for name, ratio in rules.items():
        try:
            ratios[name] = float(ratio)
        except (TypeError, ValueError):
            ratios[name] = -1.0
        if isinstance(ratio, bool) or not 0 <= ratios[name] <= 1:
            raise ValueError("holds a ratio that is not a number from 0 to 1")
    return ratios


_LONG_TEXT = "text of 16 bytes or more, such as that of openssl rand -hex 32"


def _key(value: object) -> object:
    text = secret_text(value)
    if isinstance(text, str) and len(text.encode(errors="replace")) < 16:
        raise ValueError(f"is too short; allowed: {_LONG_TEXT}")
    return value


_building = threading.Lock()


def built(model: type[BaseModel]) -> None:
    """Have pydantic build a model that is used for the first time, in any thread; before 2.13 it has no lock itself."""
    if not model.__pydantic_complete__:
        with _building:
            model.model_rebuild()


def _renew_in_child() -> None:
    """In a forked child: replace the lock, which a thread of the parent may have held."""
    global _building
    _building = threading.Lock()


at_fork(after_in_child=_renew_in_child)


class ProcessingSettings(BaseModel):
    """
    What may leave the process, and in which form.

    Each of these can be set for the process, and for one exporter, whose value then wins as a whole.
    """

    # A model is built when it is first used: a process uses few of those of the exporters.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    if not TYPE_CHECKING:  # a type checker takes the fields for the arguments

        def __new__(cls, *args: Any, **values: Any) -> Self:
            built(cls)
            return super().__new__(cls)

    redact: bool = Field(
        default=True,
        description="Whether secrets are redacted: keys, tokens, passwords. It also withholds chunks of steps.",
    )
    redact_keys: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        default=(),
        description="Further names of fields whose values are secret, exact or with * and ?; a ! before one says "
        "that it is not secret.",
        examples=["ssn,*_pin,!max_tokens"],
    )
    redact_patterns: Annotated[dict[str, str], BeforeValidator(_patterns)] = Field(
        default_factory=dict,
        description="Further regular expressions of what is secret, each with a name for its mark; also as variables "
        "of their own, such as REDACT_PATTERNS__TICKET, which need no encoding.",
    )
    redact_without: Texts = Field(
        default=(),
        description="Names of built-in patterns to leave out.",
        examples=["jwt"],
    )
    redact_personal: Annotated[tuple[str, ...], BeforeValidator(name_list(PERSONAL))] = Field(
        default=(), description="Sets of personal data to redact too.", examples=["email,phone,card,iban,ip"]
    )
    redact_hash_key: Annotated[SecretStr, BeforeValidator(_key), Allowed(_LONG_TEXT)] | None = Field(
        default=None,
        description="A key that adds to each mark a hash of what it replaces, so that equal values can be recognised.",
    )
    redact_chunks: Literal["withhold", "scan"] = Field(
        default="withhold",
        description="What happens to chunks if steps are recorded: each is withheld, or searched as if a "
        "secret were never split over two of them.",
    )
    capture_inputs: bool = Field(default=True, description="Whether inputs leave the process.")
    capture_inputs_not_of: Annotated[tuple[str, ...], BeforeValidator(name_list(KINDS))] = Field(
        default=(), description="Kinds of steps whose inputs do not.", examples=["llm,tool"]
    )
    capture_outputs: bool = Field(default=True, description="Whether outputs and chunks leave the process.")
    capture_outputs_not_of: Annotated[tuple[str, ...], BeforeValidator(name_list(KINDS))] = Field(
        default=(), description="Kinds of steps whose outputs and chunks do not.", examples=["llm,tool"]
    )
    attribute_count_limit: Limit = Field(
        default=128,
        description="Number of attributes, of keys in the metadata, and of tags, at most. Without it, "
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT is honoured, and then OTEL_ATTRIBUTE_COUNT_LIMIT.",
    )
    attribute_value_length_limit: Limit | None = Field(
        default=None,
        description="Number of characters in one value at most; without it, any. Without it, "
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT is honoured, and then OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT.",
    )
    event_count_limit: Limit = Field(
        default=128,
        description="Number of events at most. Without it, OTEL_SPAN_EVENT_COUNT_LIMIT is honoured.",
    )
    link_count_limit: Limit = Field(
        default=128,
        description="Number of links at most. Without it, OTEL_SPAN_LINK_COUNT_LIMIT is honoured.",
    )
    event_attribute_count_limit: Limit = Field(
        default=128,
        description="Number of attributes of one event at most. Without it, OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT is "
        "honoured, and then OTEL_ATTRIBUTE_COUNT_LIMIT.",
    )
    link_attribute_count_limit: Limit = Field(
        default=128,
        description="Number of attributes of one link at most. Without it, OTEL_LINK_ATTRIBUTE_COUNT_LIMIT is "
        "honoured, and then OTEL_ATTRIBUTE_COUNT_LIMIT.",
    )
    span_bytes_limit: Annotated[int, Field(ge=1024, le=2**53)] = Field(
        default=2**20, description="Bytes recorded in one span at most; the rest is cut."
    )
    run_bytes: Size | None = Field(
        default=DEFAULT_LIMITS.run_bytes,
        description="Bytes recorded in one run at most; without it, any number.",
    )
    chunk_bytes: Size = Field(
        default=DEFAULT_LIMITS.chunk_bytes,
        description="Bytes of chunks kept for the open steps of one run at most.",
    )
    sampling_ratio: Ratio = Field(
        default=1.0,
        description="Number from 0, no run, to 1, every run: the share of runs that is exported, by trace id. "
        "Without it, OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG are honoured.",
    )
    sampling_rules: Annotated[dict[str, float], BeforeValidator(_ratios)] = Field(
        default_factory=dict,
        description="Ratios for single workflows, by name or with * and ?; the first match counts.",
    )
    sampling_parent_based: bool = Field(
        default=False,
        description="Whether a run that continues a trace is exported if its caller's traceparent says so.",
    )
    sampling_keep_errors: bool = Field(
        default=False,
        description="Whether a run that was sampled out is exported whole after all if it fails.",
    )
    sampling_run_bytes: Size = Field(
        default=4 * 2**20,
        description="Bytes held at most for a run that may still fail; the newest are kept.",
    )
    sampling_all_bytes: Size = Field(default=64 * 2**20, description="Bytes held for all such runs at most.")
    tags: Annotated[dict[str, str], BeforeValidator(_paired)] = Field(
        default_factory=dict, description="Tags for every run that does not set them itself."
    )
    privacy: Literal["none", "low", "medium", "high"] | None = Field(
        default=None, description="The privacy level, which every run gets as the tag privacy.level."
    )
