"""span_attributes(): a span in the words of the OpenTelemetry GenAI conventions and of OpenInference, both at once."""

from __future__ import annotations

from nat_observability.dialects.dialect import Attributes
from nat_observability.dialects.vocabulary import EVERYBODYS
from nat_observability.events import Span


def span_attributes(span: Span) -> Attributes:
    """
    Return the attributes of a span for OTLP, in a new dict. Ids, times, name and status are not among them.

    Of the messages of a model call, its tools and parameters, a tool's arguments, the texts of embeddings and the
    documents that were found, OpenInference's names are added if the step has attributes of the conventions, such as
    `step.response` and `step.documents` set, and up to 64 KiB of each.

    Counts that no model gives for every call (cached and reasoning tokens, for example) are left out if they are 0. An
    incomplete span has the `error.type` "incomplete", and one that failed without an exception "_OTHER".
    """
    return EVERYBODYS.span_attributes(span)
