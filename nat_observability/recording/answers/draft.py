"""Draft: an answer while it is read, whole or piece by piece, within bounds."""

from __future__ import annotations

import io
from typing import Any

from nat_observability.events import TokenUsage
from nat_observability.recording.answers.answer import Answer, finish_word
from nat_observability.recording.answers.fields import (
    MAX_CHOICES,
    MAX_ITEMS,
    json_or_text,
    length_of,
    some_items,
    text_of,
)
from nat_observability.recording.answers.usage import token_usage
from nat_observability.recording.capture import MAX_BYTES

_MAX_PARTS = 1000
_MAX_CITATIONS = 256  # of one answer
_MAX_VISITS = 2000  # items of all the lists in an answer, or in a chunk
MAX_NAME = 1024  # characters of an id or a model's name
_MAX_STREAMED = MAX_BYTES * 3 // 4  # so that a capture, which keeps some room, does not cut it again
_LONGEST_SECRET = 4096  # characters; see recording.capture


class Part:
    """A part of a message: a text that grows, or what is there at once."""

    __slots__ = ("_all", "_first", "fields", "kept", "kind", "size")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fields: dict[str, Any] = {}
        self.size = self.kept = 0
        self._first: str | None = None
        self._all: io.StringIO | None = None

    @property
    def has_text(self) -> bool:
        return self._first is not None

    def add(self, text: str) -> None:
        """Add a piece of text."""
        if self._first is None:
            self._first = text
            return
        if self._all is None:
            self._all = io.StringIO()
            self._all.write(self._first)
        self._all.write(text)

    def text(self) -> str:
        text = (self._first or "") if self._all is None else self._all.getvalue()
        if self.kept == self.size:
            return text
        # The word at the cut goes as a whole, as in a capture: redaction would not recognise half a secret.
        tail = text[-_LONGEST_SECRET:].split()
        return f"{text[: -len(tail[-1])] if tail and not text[-1].isspace() else text}[cut:{self.size}]"

    def shown(self) -> dict[str, Any]:
        kind = self.kind
        if kind == "raw":
            return self.fields
        if kind == "tool_call":
            call: dict[str, Any] = {"type": "tool_call", **self.fields}
            if "arguments" not in call:
                call["arguments"] = json_or_text(self.text()) if self.has_text else None
            return call
        return {"type": kind, "content": self.text(), **self.fields}


class Message:
    """One of the messages of an answer: a choice, a candidate."""

    __slots__ = ("_calls", "_draft", "_last", "_parts", "finish_reason", "left_out", "name", "role")

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._calls: dict[object, object] = {}
        self._parts: dict[object, Part] = {}
        self._last: object = None
        self.role = "assistant"
        self.name: str | None = None
        self.finish_reason: str | None = None
        self.left_out = 0

    def part(self, kind: str, key: object = None) -> Part | None:
        """
        Return the part of this kind under a key, made if it is new; None if there are too many.

        Without a key it is the last part, if that is of this kind.
        """
        if key is None:
            last = self._parts.get(self._last)
            if last is not None and last.kind == kind:
                return last
            key = kind, len(self._parts)
        else:
            key = kind, key
        found = self._parts.get(key)
        if found is None:
            if not self._draft.has_room():
                self.left_out += 1
                return None
            found = self._parts[key] = Part(kind)
            self._last = key
        return found

    def text_part(self, key: object) -> Part | None:
        """Return the text under a key, made if it is new; without a key the last one, None if there is none."""
        if key is not None:
            return self.part("text", key)
        return next((part for part in reversed(self._parts.values()) if part.kind == "text"), None)

    def take_citations(self, count: int) -> int:
        """Return for how many of so many citations there is room in the answer, which they take."""
        return self._draft.take_citations(count)

    def text(self, kind: str, value: object, key: object = None) -> None:
        """Add to a text, a refusal or reasoning; anything but a text is not added."""
        text = text_of(value)
        if text and (part := self.part(kind, key)) is not None:
            self._draft.add(part, text)

    def tool(self, key: object, call_id: object, name: object, arguments: object) -> None:
        """Begin a call of a tool, or add to its arguments; a text of them grows, anything else is all of them."""
        found = text_of(call_id)
        at = self._calls.get(key, key)
        known = self._parts.get(("tool_call", at))
        if known is not None and found and known.fields.get("id", found) != found:
            # Some servers give every call of a stream the same index.
            at = self._calls[key] = key, found
        part = self.part("tool_call", at)
        if part is None:
            return
        if found:
            part.fields["id"] = found[:MAX_NAME]
        part.fields["name"] = (text_of(name) or "")[:MAX_NAME] or part.fields.get("name", "")
        text = text_of(arguments)
        if text is not None:
            self._draft.add(part, text)
        elif arguments is not None:
            part.fields["arguments"] = arguments

    def raw(self, fields: dict[str, Any], key: object = None) -> None:
        """Add a part as it is."""
        part = self.part("raw", (len(self._parts),) if key is None else key)
        if part is not None:
            part.fields = fields

    def some_items(self, value: object) -> list[Any] | None:
        """Return the items of a list that there are visits left for, None of anything else; count the others."""
        found = self._draft.some_items(value)
        if found is not None:
            self.left_out += length_of(value) - len(found)
        return found

    def items(self, value: object) -> list[Any]:
        """Return the items of a list that there are visits left for, none of anything else."""
        return self.some_items(value) or []

    @property
    def has_tool_calls(self) -> bool:
        return any(part.kind == "tool_call" for part in self._parts.values())

    def shown(self) -> dict[str, Any]:
        parts = [part.shown() for part in self._parts.values()]
        if self.left_out:
            parts.append({"type": "cut", "content": f"[cut:{len(parts) + self.left_out}]"})
        message: dict[str, Any] = {"role": self.role, "parts": parts}
        if self.name:
            message["name"] = self.name
        if self.finish_reason is not None:
            message["finish_reason"] = finish_word(self.finish_reason)
        return message


class Draft:
    """
    An answer while it is read. What it keeps is bounded, however long a stream lasts.

    Args:
        streamed: Whether it comes in pieces, so that the text of a piece goes on where the last one ended.

    Attributes:
        delta: The texts that the current chunk of a stream adds.
        memory: What the reader of a stream has to remember from one event to the next.
        expects_finish: Whether a message without a finish reason has not been ended by the model.
    """

    def __init__(self, *, streamed: bool = False) -> None:
        self.streamed = streamed
        self.expects_finish = False
        self.response_id: str | None = None
        self.model: str | None = None
        self.provider: str | None = None
        self.usage: TokenUsage | None = None
        self.output: Any = None
        self.attributes: dict[str, Any] = {}
        self.delta: list[str] = []
        self.memory: dict[str, Any] = {}
        self._messages: dict[int, Message] = {}
        self._left = _MAX_STREAMED
        self._parts = 0
        self._visits_left = _MAX_VISITS
        self._citations_left = _MAX_CITATIONS

    def some_items(self, value: object) -> list[Any] | None:
        """Return the items of a list that there are visits left for, None of anything else."""
        found = some_items(value, min(MAX_ITEMS, self._visits_left))
        if found is not None:
            self._visits_left -= len(found)
        return found

    def take_citations(self, count: int) -> int:
        left = min(count, self._citations_left)
        self._citations_left -= left
        return left

    def next_chunk(self) -> None:
        """Begin with the next chunk of a stream."""
        self.delta.clear()
        self._visits_left = _MAX_VISITS

    def has_room(self) -> bool:
        self._parts += 1
        return self._parts <= _MAX_PARTS

    def add(self, part: Part, text: str) -> None:
        """Add to a part; of a stream, as much as there is room for. An answer is there anyway, and captured at once."""
        part.size += len(text)
        if not self.streamed:
            part.kept = part.size
            part.add(text)
            return
        self.delta.append(text)
        # In bytes of UTF-8, of which a character has four at most.
        left = max(0, self._left)
        kept = text if len(text) * (1 if text.isascii() else 4) <= left else text[: left // 4]
        if not kept and text:
            return
        self._left -= len(kept) if kept.isascii() else len(kept.encode("utf-8", "surrogatepass"))
        part.kept += len(kept)
        part.add(kept)

    def message(self, index: object = 0) -> Message:
        """Return the message of a choice; of more than are kept, the last."""
        at = index if type(index) is int and 0 <= index < MAX_CHOICES else 0 if type(index) is not int else -1
        found = self._messages.get(at)
        if found is None:
            found = self._messages[at] = Message(self)
        return found

    @property
    def has_messages(self) -> bool:
        return bool(self._messages)

    def head(self, response_id: object, model: object) -> None:
        """Set the id and the model, each if it is a text."""
        found = text_of(response_id)
        if found:
            self.response_id = found[:MAX_NAME]
        found = text_of(model)
        if found:
            self.model = found[:MAX_NAME]

    def vectors(self, count: int, dimensions: int) -> None:
        """Record embeddings by their number and size: their numbers say nothing to a reader."""
        self.output = {"count": count, "dimensions": dimensions}
        self.attribute("gen_ai.embeddings.dimension.count", dimensions or None)

    def clear(self) -> None:
        """Forget the messages, which come once more."""
        self._messages.clear()
        self._left = _MAX_STREAMED
        self._parts = 0

    def used(self, usage: object, *, only_input: bool = False) -> None:
        """Set the usage, if there is one. If the answer has no tokens, a total may be all that is counted."""
        if usage is not None:
            self.usage = token_usage(usage, only_input=only_input) or self.usage

    def attribute(self, name: str, value: object) -> None:
        """Set an attribute, if there is a value."""
        # Not by `!=` alone, which an array answers with an array.
        if value is not None and not (type(value) is str and not value):
            self.attributes[name] = value

    def answer(self) -> Answer:
        """Return what has been read so far."""
        messages = [*self._messages.values()]
        if len(messages) > 1:
            messages = [
                self._messages[index] for index in sorted(self._messages, key=lambda at: (at < 0, at))
            ]
        if self.expects_finish:
            # The conventions' word for a stream that ended before its last event.
            for message in messages:
                message.finish_reason = message.finish_reason or "error"
        shown = tuple([message.shown() for message in messages])
        reasons = [message.finish_reason for message in messages]
        return Answer(
            response_id=self.response_id,
            model=self.model,
            provider=self.provider,
            finish_reasons=tuple([reason or "" for reason in reasons]) if any(reasons) else (),
            messages=shown,
            tool_calls=tuple(
                [
                    part
                    for message in shown
                    for part in message["parts"]
                    if text_of(part.get("type")) == "tool_call"
                ]
            ),
            output=self.output,
            usage=self.usage,
            attributes=self.attributes,
        )
