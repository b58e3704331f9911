"""What an OTLP back end answers: partial success, the reason for a failure, and when to retry."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import NamedTuple, TypeVar

import msgspec

from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.sinks.otlp.options import SecretHeaders, one_line
from nat_observability.sinks.otlp.wire_format import fields

LONGEST_WAIT = 3600.0
"""The maximum wait, in seconds, that a back end can ask for; if it asks for more, we retry after an hour."""

LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read."""

Hide = Callable[[str], str]
"""A function that hides the secrets in a stranger's text: `SecretHeaders.hide`."""

_LONGEST_MESSAGE = 300
_RETRY_INFO = b"google.rpc.RetryInfo"


class PartialSuccess(NamedTuple):
    """The number of spans that a back end rejected, and its message about them, or about spans that it accepted."""

    rejected: int = 0
    message: str = ""


class _JsonPartialSuccess(msgspec.Struct, rename="camel"):
    rejected_spans: int | str = 0
    error_message: str = ""


class _JsonAnswer(msgspec.Struct, rename="camel"):
    partial_success: _JsonPartialSuccess | None = None


class _JsonStatus(msgspec.Struct):
    message: str = ""


AnswerT = TypeVar("AnswerT")


class AnswerReader:
    """
    Reads what a back end says about spans that it accepted, and logs it, at most every 30 seconds.

    Args:
        where: The back end's address, for the log.
        headers: The headers whose secrets the log must not show.
    """

    def __init__(self, where: str, headers: SecretHeaders) -> None:
        self._where, self._headers = where, headers
        self._partial = RepeatedEvent()
        self._not_understood = RepeatedEvent()

    def rejected(self, body: bytes | None, items: int, content_type: str = "") -> int:
        """
        Return how many of `items` spans the back end rejected.

        Args:
            body: The response; None if it was incomplete. The spans were still accepted, and sending them again would
                duplicate them.
        """
        try:
            if body is None:
                raise ValueError("it ended too early, or was too long")
            rejected, message = partial_success(body, content_type, hide=self._headers.hide)
        except ValueError as error:
            suppressed = self._not_understood.due()
            if suppressed is not None:
                get_logger().warning(
                    "otlp_answer_not_understood",
                    endpoint=self._where,
                    error=str(error),
                    suppressed=suppressed,
                )
            return 0
        if rejected or message:
            suppressed = self._partial.due()
            if suppressed is not None:
                get_logger().warning(
                    "otlp_partial_success",
                    endpoint=self._where,
                    rejected=rejected,
                    message=message,
                    suppressed=suppressed,
                )
        return min(rejected, items)


def partial_success(body: bytes, content_type: str = "", *, hide: Hide) -> PartialSuccess:
    """
    Return what an ExportTraceServiceResponse says, in protobuf or, if the content type says so, in JSON.

    Raises:
        ValueError: It is neither. The message shows nothing of it.
    """
    if "json" in content_type:
        answer = _decoded(body or b"{}", _JsonAnswer).partial_success or _JsonPartialSuccess()
        return PartialSuccess(_count(answer.rejected_spans), readable(answer.error_message, hide))
    rejected, message = 0, ""
    for partial in _messages(body, 1):
        for number, value in fields(partial):
            if number == 1 and isinstance(value, int) and value < 2**63:
                rejected = value
            elif number == 2 and isinstance(value, bytes):
                message = readable(value.decode("utf-8", "replace"), hide)
    return PartialSuccess(rejected, message)


def failure_message(body: bytes, content_type: str = "", *, hide: Hide) -> str:
    """Return, in one short line, the reason in the body of a failure: usually a google.rpc.Status, or any text."""
    try:
        if "json" in content_type:
            if message := _decoded(body, _JsonStatus).message:
                return readable(message, hide)
        elif "protobuf" in content_type:
            return readable(b"".join(_messages(body, 2)).decode("utf-8", "replace"), hide)
    except ValueError:
        pass
    text = body.decode("utf-8", "replace")
    # Hidden first: a secret may contain something that looks like a tag.
    return readable(re.sub(r"<[^>]*>", " ", hide(text)) if "html" in content_type else text, hide)


def readable(text: str, hide: Hide) -> str:
    """Return a stranger's text as one line without control characters and secrets, cut if it is long."""
    # Hidden before the last cut, which could leave the beginning of a secret. The first cut may leave one too, at the
    # end, where `hide` looks for it.
    line = hide(one_line(text[: 4 * _LONGEST_MESSAGE]))
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"


def retry_after(value: str | None, date: str | None, now: float) -> float | None:
    """
    Return the seconds that a `Retry-After` header asks for, from 0 to `LONGEST_WAIT`, or None if it says nothing.

    Args:
        value: Seconds or an HTTP date (RFC 9110, section 10.2.3).
        date: The `Date` header of the same answer: a date is relative to it, as the server's clock may differ.
        now: Seconds since the epoch, for a response without that header.
    """
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return min(float(value), LONGEST_WAIT)
    until = _timestamp(value)
    if until is None:
        return None
    since = _timestamp(date or "")
    return min(max(0.0, until - (now if since is None else since)), LONGEST_WAIT)


def retry_info(status: bytes) -> float | None:
    """
    Return the seconds that the RetryInfo in a google.rpc.Status asks for, or None if there is none.

    Args:
        status: The trailing metadata `grpc-status-details-bin`.
    """
    try:
        for detail in _messages(status, 3):
            content = dict(fields(detail))
            kind, info = content.get(1), content.get(2, b"")
            if isinstance(kind, bytes) and kind.endswith(_RETRY_INFO) and isinstance(info, bytes):
                return sum(map(_seconds, _messages(info, 1)), 0.0)
    except ValueError:
        pass
    return None


def _decoded(body: bytes, kind: type[AnswerT]) -> AnswerT:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:  # a ValueError only in newer versions
        raise ValueError(str(error)) from None


def _count(number: int | str) -> int:
    try:
        return max(0, int(number))
    except ValueError:
        # The interpreter's message quotes the value.
        raise ValueError("rejectedSpans is not a number") from None


def _seconds(duration: bytes) -> float:
    parts = dict(fields(duration))
    seconds, nanoseconds = parts.get(1, 0), parts.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanoseconds, int):
        raise ValueError("not a google.protobuf.Duration")
    # A negative number is a varint above 63 bits.
    return min(seconds + nanoseconds / 1e9, LONGEST_WAIT) if max(seconds, nanoseconds) < 2**63 else 0.0


def _messages(data: bytes, wanted: int) -> Iterator[bytes]:
    return (value for number, value in fields(data) if number == wanted and isinstance(value, bytes))


def _timestamp(text: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    # An HTTP date is in GMT, even if it says -0000, which stands for an unknown zone.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
