"""retrieved(): the documents that a retriever has found, of any library, as the conventions' list."""

from __future__ import annotations

import uuid
from typing import Any

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.answers.fields import field, is_number, module_of, path, some_items, text_of

_MAX_DOCUMENTS = 1000
_CONTENTS = ("page_content", "content", "text", "document", "body")
_SCORES = ("score", "relevance_score", "similarity", "distance")
_IDS = ("id", "id_", "doc_id", "document_id", "node_id", "_id")


def retrieved(documents: object) -> tuple[list[dict[str, Any]], object]:
    """
    Return documents as the conventions' `gen_ai.retrieval.documents`, and one that was not understood or None.

    Each has what is known of `id`, `score`, `content` and `metadata`. LangChain's and LlamaIndex's objects are known,
    dicts, texts, and pairs of a document and its score. One that is not understood is recorded as it is.
    """
    listed = some_items(documents, _MAX_DOCUMENTS)
    if listed is None:
        listed = _inside(documents)
    unknown: object = None
    found: list[dict[str, Any]] = []
    for each in listed:
        read = _document(each)
        if read is None:
            unknown = each
            read = {"content": each}
        found.append(read)
    return found, unknown


def _inside(documents: object) -> list[Any]:
    """Return the documents of a result that has more than them, or one document."""
    for name in ("documents", "source_nodes", "matches", "points", "results", "data", "hits"):
        listed = some_items(field(documents, name), _MAX_DOCUMENTS)
        if listed is not None:
            return listed
    return [] if documents is None else [documents]


def _document(document: object) -> dict[str, Any] | None:
    score: Any = None
    pair = some_items(document, 3)
    if pair is not None:
        if len(pair) != 2:
            return None
        first, second = pair
        document, score = (second, first) if _is_score(first) and not _is_score(second) else (first, second)
        if not _is_score(score):
            return None
    text = text_of(document)
    if text is not None:
        return _named(None, score, text, None)
    node = field(document, "node")  # LlamaIndex's NodeWithScore
    held = document if node is None else node
    if score is None:
        score = next((each for name in _SCORES if _is_score(each := field(document, name))), None)
    content = _content(held)
    found_id = next((each for name in _IDS if _is_id(each := field(held, name))), None)
    if content is None and found_id is None and score is None:
        return None
    return _named(found_id, score, content, field(held, "metadata", "payload", "extra_info"))


def _content(held: object) -> Any:
    for name in _CONTENTS:
        content = field(held, name)
        if (text := text_of(content)) is not None:
            return text
        if type(content) is dict and (text := text_of(content.get("text"))) is not None:
            return text
    text = text_of(path(held, "text_resource", "text"))  # LlamaIndex, since 0.12
    if text is not None:
        return text
    return text_of(field(field(held, "metadata", "payload"), "text", "content", "page_content"))


def _named(document_id: object, score: Any, content: object, metadata: object) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if document_id is not None:
        found["id"] = document_id
    if score is not None:
        found["score"] = score if type(score) in (int, float) else _plain_number(score)
    if content is not None:
        found["content"] = content
    # Not by `!=`, which a data frame answers with a frame.
    if metadata is not None and not (type(metadata) is dict and not metadata):
        found["metadata"] = metadata
    return found


def _is_id(value: object) -> bool:
    return type(value) in (int, uuid.UUID) or bool(text_of(value))


def _plain_number(score: Any) -> Any:
    try:
        return float(score)
    except BaseException as error:  # noqa: BLE001  foreign code: a number of a class of its own
        reraise_signal(error)
        return score


def _is_score(value: object) -> bool:
    # By the type alone: `isinstance` asks the object for its class, and a lazy one may raise then.
    if type(value) is bool or issubclass(type(value), str):
        return False
    # A number of numpy's is one too.
    return is_number(value) or (
        module_of(value).startswith("numpy") and not some_items(field(value, "shape"))
    )
