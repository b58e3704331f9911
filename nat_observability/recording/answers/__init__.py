"""Answers: what models and their clients answer, request and retrieve, read without importing any of them."""

from nat_observability.recording.answers.answer import Answer, provider_name
from nat_observability.recording.answers.documents import retrieved
from nat_observability.recording.answers.reader import (
    AnswerJoiner,
    is_chunk,
    read_answer,
    read_output,
    read_tool_call,
)
from nat_observability.recording.answers.request import request_attributes
from nat_observability.recording.answers.unknown import note_unknown
from nat_observability.recording.answers.usage import token_usage

__all__ = [
    "Answer",
    "AnswerJoiner",
    "is_chunk",
    "note_unknown",
    "provider_name",
    "read_answer",
    "read_output",
    "read_tool_call",
    "request_attributes",
    "retrieved",
    "token_usage",
]
