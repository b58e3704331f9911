"""Amazon Bedrock's Converse, whose answers and events are dicts."""

from __future__ import annotations

from nat_observability.recording.answers.citations import add_citation, add_cited_block
from nat_observability.recording.answers.draft import Draft, Message
from nat_observability.recording.answers.fields import field, items, path, text_of
from nat_observability.recording.answers.parts import add_media

EVENTS = (
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
)


def read(draft: Draft, answer: object) -> bool:
    """Read an answer into the draft; False if it is none."""
    said = path(answer, "output", "message")
    if said is None or text_of(field(answer, "stopReason")) is None:
        return False
    draft.provider = draft.provider or "aws.bedrock"
    draft.head(
        path(answer, "ResponseMetadata", "RequestId"), path(answer, "trace", "promptRouter", "invokedModelId")
    )
    draft.used(field(answer, "usage"))
    message = draft.message()
    message.role = text_of(field(said, "role")) or message.role
    message.finish_reason = text_of(field(answer, "stopReason"))
    for at, block in enumerate(items(field(said, "content"))):
        _read_block(message, block, at)
    return True


def _read_block(message: Message, block: object, at: object) -> None:
    tool, reasoning = field(block, "toolUse"), field(block, "reasoningContent")
    if (text := text_of(field(block, "text"))) is not None:
        message.text("text", text, at)
    elif tool is not None:
        message.tool(at, field(tool, "toolUseId"), field(tool, "name"), field(tool, "input"))
    elif reasoning is not None:
        message.text("reasoning", path(reasoning, "reasoningText", "text") or field(reasoning, "text"), at)
    elif (cited := field(block, "citationsContent")) is not None:
        add_cited_block(message, cited, at)
    elif (image := field(block, "image")) is not None:
        add_media(message, "image", {"source": {"bytes": path(image, "source", "bytes")}}, at)
    elif type(block) is dict and len(block) == 1:
        ((kind, content),) = block.items()
        message.raw({"type": str(kind), "content": content}, at)


def read_event(draft: Draft, event: object) -> bool:
    """Read one event of a stream into the draft; False if it is none."""
    if type(event) is not dict or not any(name in event for name in EVENTS):
        return False
    if "metadata" in event and field(event["metadata"], "usage") is None and not draft.has_messages:
        return False
    draft.expects_finish = True
    draft.provider = draft.provider or "aws.bedrock"
    message = draft.message()
    if (started := event.get("messageStart")) is not None:
        message.role = text_of(field(started, "role")) or message.role
    if (block := event.get("contentBlockStart")) is not None:
        tool = path(block, "start", "toolUse")
        if tool is not None:
            message.tool(
                field(block, "contentBlockIndex"), field(tool, "toolUseId"), field(tool, "name"), None
            )
    if (piece := event.get("contentBlockDelta")) is not None:
        at, delta = field(piece, "contentBlockIndex"), field(piece, "delta")
        message.text("text", field(delta, "text"), at)
        message.text("reasoning", path(delta, "reasoningContent", "text"), at)
        if (cited := field(delta, "citation")) is not None:
            add_citation(message, cited, at)
        if (arguments := path(delta, "toolUse", "input")) is not None:
            message.tool(at, None, None, arguments)
    if (stopped := event.get("messageStop")) is not None:
        message.finish_reason = text_of(field(stopped, "stopReason"))
    if (metadata := event.get("metadata")) is not None:
        draft.used(field(metadata, "usage"))
    return True
