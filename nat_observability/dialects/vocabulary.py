"""Vocabulary: one dialect or several at once, as an encoder asks for them: by step, by run, by payload, by outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from nat_observability.dialects.dialect import Attributes, Dialect, no_attributes
from nat_observability.dialects.genai import (
    DATA_SOURCE,
    GENAI,
    MODEL_CALLS,
    PART_OF_A_WORKFLOW,
    PROVIDER,
    SCHEMA_URL,
    maker_of,
)
from nat_observability.dialects.langfuse import LANGFUSE, langfuse_resource
from nat_observability.dialects.messages import (
    SPOKEN,
    Side,
    conventional,
    conventional_documents,
    genai_payload,
)
from nat_observability.dialects.openinference import OPENINFERENCE
from nat_observability.events import Captured, Run, Span, Status, StepKind, TokenUsage
from nat_observability.resource import Resource

DIALECTS: Final[Mapping[str, Dialect]] = {each.name: each for each in (GENAI, LANGFUSE, OPENINFERENCE)}
"""By name."""

Dialects = str | Iterable[str]
"""Names of dialects: one text with commas between them, or several texts."""

DEFAULT_DIALECT: Final = "genai,openinference"
"""For a back end that may know either."""

_UNSPOKEN: Mapping[Side, Mapping[StepKind, str]] = {"input": {}, "output": {}}
_KINDS = {kind: kind.value for kind in StepKind}
_COUNTS = TokenUsage.__struct_fields__
_ALWAYS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_decode = msgspec.json.Decoder().decode
# What an application records as it has it, and the conventions have a schema for.
_CONVENTIONAL: Mapping[str, Callable[[Any], Any]] = {
    "gen_ai.input.messages": conventional,
    "gen_ai.output.messages": conventional,
    "gen_ai.retrieval.documents": conventional_documents,
}
# What no dialect of a vocabulary has a word for is written in one that many back ends know.
_COMMON = {"input": "input.value", "output": "output.value", "metadata": "metadata"}


class Vocabulary:
    """
    The attributes that a span has in these dialects. Ids, times and status are not among them.

    - The names of the GenAI conventions, of OpenInference and of Langfuse are those of the dialects' tables.
    - `error.type` is OpenTelemetry's, and in every vocabulary.
    - `nat.*`: the kind of the step and the id of the run, for which none of them has a word, under the names that the
      NeMo Agent Toolkit gives them; and each tag of the run, `tenant` as `nat.tag.tenant`.

    Input, output, metadata and tags are written once: by the first dialect with a word for them, the GenAI conventions
    last, because theirs is another form of the same.

    An attribute that the application set is always written, under its name, and wins over one that is derived here.

    Args:
        dialects: The first one also decides what a span is called.
    """

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self.dialects = tuple(dict.fromkeys(dialects))
        self.name = ",".join(each.name for each in self.dialects)
        genai = GENAI in self.dialects
        self.schema_url = SCHEMA_URL if genai else None
        self._with_provider = genai
        self._operations: Mapping[StepKind, str] = PART_OF_A_WORKFLOW if self.dialects == (GENAI,) else {}
        self._named_by = self.dialects[0].span_names
        self.reads_every_call = self.dialects == (OPENINFERENCE,)
        self.tells_run_tags = LANGFUSE in self.dialects
        with_words = [each for each in self.dialects if each.payloads]
        self._payloads: Mapping[str, str] = with_words[0].payloads if with_words else _COMMON
        self.spoken: Mapping[Side, Mapping[StepKind, str]] = SPOKEN if genai and not with_words else _UNSPOKEN
        self._tags = next((each.tags for each in self.dialects if each.tags is not None), "tag.tags")
        self.usage = tuple(
            (tuple(each.usage[count] for each in self.dialects if count in each.usage), count in _ALWAYS)
            for count in _COUNTS
        )
        self._run = tuple(
            (field, attribute) for each in self.dialects for field, attribute in each.run.items()
        )
        self._cost = tuple(
            (field, attribute) for each in self.dialects for field, attribute in each.cost.items()
        )
        self._errors = tuple(pair for each in self.dialects for pair in each.error.items())
        self._outcomes = tuple(
            each.of_outcome for each in self.dialects if each.of_outcome is not no_attributes
        )
        self._owns = tuple(each.of_own for each in self.dialects)
        self._runs = tuple(each.of_run for each in self.dialects if each.of_run is not no_attributes)
        # Of the GenAI conventions too: recorded under their names, and read by the others.
        prefixes = {prefix for each in (*self.dialects, GENAI) for prefix in each.prefixes}
        self._prefixes = (
            *prefixes,
            "nat.",
            "error.type",
            "input.value",
            "output.value",
            "metadata",
            "tag.tags",
        )

    def __repr__(self) -> str:
        return f"Vocabulary({self.name})"

    # -- The parts, each of which an encoder may cache or write in its own way -----------------------------------------

    def step_attributes(self, kind: StepKind, name: str, workflow_name: str | None) -> Attributes:
        """Return the attributes shared by every step of this kind and name in a run of that workflow."""
        attributes: Attributes = {"nat.span.kind": _KINDS[kind]}
        if (operation := self._operations.get(kind)) is not None:
            attributes["gen_ai.operation.name"] = operation
        called = workflow_name or name if kind is StepKind.WORKFLOW else name
        for dialect in self.dialects:
            attributes |= dialect.kinds.get(kind, {})
            attributes |= dict.fromkeys(dialect.named.get(kind, ()), called)
        if self._with_provider and kind in MODEL_CALLS:
            attributes[PROVIDER] = maker_of(name)
        return attributes

    def run_attributes(self, run: Run) -> Attributes:
        """Return the attributes shared by every span of the run."""
        attributes: Attributes = {"nat.workflow.run_id": run.run_id}
        for field, attribute in self._run:
            if (value := getattr(run, field)) is not None:
                attributes[attribute] = value
        for tag, text in run.tags:
            attributes[f"nat.tag.{tag}"] = text
        for of_run in self._runs:
            attributes |= of_run(run)
        return attributes

    def usage_attributes(self, usage: TokenUsage) -> Attributes:
        """Return the attributes of tokens."""
        attributes: Attributes = {}
        for (names, always), count in zip(self.usage, msgspec.structs.astuple(usage), strict=True):
            if always or count:
                attributes |= dict.fromkeys(names, count)
        return attributes

    def outcome_attributes(self, span: Span) -> Attributes:
        """Return the attributes of streaming, tags, cost, evaluations and errors."""
        attributes: Attributes = {}
        if span.tags:
            attributes[self._tags] = span.tags
        if span.cost is not None:
            for field, name in self._cost:
                attributes[name] = getattr(span.cost, field)
        for of_outcome in self._outcomes:
            attributes |= of_outcome(span)
        if span.error is not None or span.status is not Status.OK:
            self._add_error(attributes, span)
        return attributes

    def payload_name(self, name: str) -> str:
        """Return the attribute for "input", "output" or "metadata"."""
        return self._payloads[name]

    def payload_attributes(self, span: Span, side: Side, value: Captured) -> Attributes:
        """Return the attributes of an input or an output."""
        if (spoken := self.spoken[side].get(span.kind)) is not None:
            return {spoken: genai_payload(span, side, value).decode()}
        name = self._payloads[side]
        text, mime_type = (
            (str(bytes(value), "utf-8"), "application/json")
            if isinstance(value, msgspec.Raw)
            else (value, "text/plain")
        )
        if not name.endswith(".value"):
            return {name: text}
        return {name: text, f"{name.removesuffix('value')}mime_type": mime_type}

    def own_attributes(self, span: Span, own: dict[str, Any]) -> Attributes:
        """Return what the dialects say of attributes that were recorded under the conventions' names."""
        attributes: Attributes = {}
        # Most steps have none, and need not be searched for more.
        if any(name.startswith("gen_ai.") for name in own) or (
            self.reads_every_call and span.kind is StepKind.LLM
        ):
            for of_own in self._owns:
                attributes |= of_own(span, own)
        return attributes

    def is_derived(self, names: Iterable[str]) -> bool:
        """Whether one of these names is, or may be, that of an attribute that is derived from a span here."""
        return any(name.startswith(self._prefixes) for name in names)

    # -- The whole -----------------------------------------------------------------------------------------------------

    def span_attributes(self, span: Span) -> Attributes:
        """Return all of a span's attributes, in a new dict."""
        if span.origin is not None:
            return self._beside(span)
        attributes = self.step_attributes(span.kind, span.name, span.run.workflow_name)
        attributes |= self.run_attributes(span.run)
        for side, value in (("input", span.input), ("output", span.output)):
            if value is not None:
                attributes |= self.payload_attributes(span, side, value)  # type: ignore[arg-type]
        if span.metadata is not None:
            attributes[self._payloads["metadata"]] = str(bytes(span.metadata), "utf-8")
        if span.usage is not None:
            attributes |= self.usage_attributes(span.usage)
        attributes |= self.outcome_attributes(span)
        own = decoded_attributes(span.attributes)
        attributes |= self.own_attributes(span, own)
        if self._with_provider:
            own |= {name: read(own[name]) for name, read in _CONVENTIONAL.items() if name in own}
        # The application's own say it as it wants it said.
        return attributes | own

    def step_name(self, kind: StepKind, name: str, workflow_name: str | None) -> str:
        """Return what every span of this kind and name is called in a run of that workflow."""
        first = self._named_by.get(kind)
        if first is None:
            return name
        return f"{first} {workflow_name or name if kind is StepKind.WORKFLOW else name}"

    def span_name(self, span: Span, attributes: Mapping[str, Any]) -> str:
        """Return what a span with these attributes is called."""
        first = self._named_by.get(span.kind)
        if first is None or span.origin is not None:
            return span.name
        operation = attributes.get("gen_ai.operation.name", first)
        named = GENAI.named.get(span.kind)
        target = attributes.get(named[-1] if named else DATA_SOURCE, span.name)
        return f"{operation} {target}"

    def resource(self, resource: Resource) -> Resource:
        """Return the attributes of the resource with what a dialect wants to find there."""
        return langfuse_resource(resource) if self.tells_run_tags else resource

    def _beside(self, span: Span) -> Attributes:
        """Return the attributes of a span of another instrumentation as they were, with ours beside them."""
        attributes: Attributes = {"nat.span.kind": _KINDS[span.kind]}
        attributes |= self.run_attributes(span.run)
        if span.cost is not None:
            for field, name in self._cost:
                attributes[name] = getattr(span.cost, field)
        if span.status is Status.INCOMPLETE:
            attributes["error.type"] = "incomplete"
        own = decoded_attributes(span.attributes)
        # Ours behind theirs, whose order stays.
        return own | {name: value for name, value in attributes.items() if name not in own}

    def _add_error(self, attributes: Attributes, span: Span) -> None:
        error = span.error
        if error is None:
            attributes["error.type"] = "incomplete" if span.status is Status.INCOMPLETE else "_OTHER"
            return
        attributes["error.type"] = error.type
        for field, name in self._errors:
            if (value := getattr(error, field)) is not None:
                attributes[name] = value


def decoded_attributes(attributes: msgspec.Raw | None) -> dict[str, Any]:
    """Return recorded attributes as Python values. A processor of the application may have made them something else."""
    if attributes is None:
        return {}
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = _decode(attributes)
        if isinstance(decoded, dict):
            return decoded
        return {"value": decoded}
    return {"value": bytes(attributes).decode("utf-8", "backslashreplace")}


def vocabulary(names: Dialects) -> Vocabulary:
    """
    Return the vocabulary of dialects with these names, with commas between them.

    Raises:
        ValueError: A name is not that of a dialect, or there is none.
    """
    listed = [name.strip().lower() for name in (names.split(",") if isinstance(names, str) else names)]
    unknown = [name for name in listed if name not in DIALECTS]
    if unknown or not listed:
        raise ValueError(
            f"A dialect is one of {', '.join(sorted(DIALECTS))}, not {', '.join(unknown) or 'nothing'}."
        )
    return Vocabulary(DIALECTS[name] for name in listed)


EVERYBODYS: Final = vocabulary(DEFAULT_DIALECT)
"""The GenAI conventions and OpenInference."""
