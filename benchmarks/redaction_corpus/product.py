"""The redactor of this project, as its users have it: a span's input and output, with the default settings."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec

from nat_observability.events import Captured, Run, Span, Status, StepKind
from nat_observability.processors import Redactor
from nat_observability.recording.capture import capture

_RUN = Run("run-1", "1" * 32)
_decode = msgspec.json.Decoder().decode


def redact(given: Any) -> str:
    """Return what leaves of a value that a step has as its input."""
    return _left(_redactor(()), given)


def redact_personal(name: str, text: str) -> str:
    """Return what leaves of a text if personal data of a set is redacted."""
    return _left(_redactor((name,)), text)


@cache
def _redactor(personal: tuple[str, ...]) -> Redactor:
    return Redactor(personal=personal) if not personal else Redactor(keys=(), patterns=(), personal=personal)


def _left(redactor: Redactor, given: Any) -> str:
    span = Span(
        run=_RUN,
        kind=StepKind.TOOL,
        name="login",
        span_id="2" * 16,
        parent_id=None,
        start_ns=1,
        end_ns=2,
        status=Status.OK,
        input=capture(given),
        output=None,
        metadata=None,
    )
    left = redactor(span)
    assert isinstance(left, Span)
    return _text(left.input)


def _text(value: Captured) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(_decode(value), ensure_ascii=False)
