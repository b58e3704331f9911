"""retrieved(): the documents that a retriever has found, of any library, as the conventions' list."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.answers.fields import (
    field,
    fields_of,
    is_number,
    module_of,
    path,
    some_items,
    text_of,
)
from nat_observability.recording.answers.stores import MAX_DOCUMENTS, flat, found_in, from_pair

_CONTENTS = ("page_content", "content", "text", "document", "body")
_SCORES = ("score", "relevance_score", "similarity", "distance", "vector_score")
_IDS = ("id", "id_", "doc_id", "document_id", "node_id", "uuid")
# In what else a document's text and fields are: Qdrant, Milvus, Pinecone, Weaviate.
_HOLDERS = ("metadata", "payload", "extra_info", "entity", "fields", "properties", "meta")
# Of dicts and models, which are looked up in no time.
_MORE_CONTENTS = (*_CONTENTS, "chunk_text", "title")
_MORE_SCORES = (
    *_SCORES,
    "_score",
    "_distance",
    "_relevance_score",
    "_rankingScore",
    "@search.reranker_score",
    "@search.score",
    "vector_distance",
    "text_match",
    "relevance",
    "certainty",
    "$dist",
)
_MORE_IDS = (*_IDS, "_id", "pk", "file_id", "key")
_MORE_HOLDERS = (*_HOLDERS, "_source", "document", "attributes")
_METADATA = ("metadata", "payload", "extra_info", "meta")
_READ = frozenset(
    (
        *_MORE_IDS,
        *_MORE_SCORES,
        *_MORE_HOLDERS,
        "_additional",
        "node",
        "embedding",
        "values",
        "vector",
        "vectors",
        "$vector",
    )
)
_ROWS = ("asyncpg", "psycopg", "psycopg2", "sqlalchemy", "sqlite3")
_FEW = 64  # columns


def retrieved(documents: object) -> tuple[list[dict[str, Any]], object]:
    """
    Return documents as the conventions' `gen_ai.retrieval.documents`, and one that was not understood or None.

    Each has what is known of `id`, `score`, `content` and `metadata`. LangChain's and LlamaIndex's objects are known,
    dicts, texts, pairs of a document and its score, rows, and what stores return. One that is not understood is
    recorded as it is.
    """
    listed = _listed(documents)
    unknown: object = None
    found: list[dict[str, Any]] = []
    for each in listed:
        read = _read(each)
        if read is None:
            unknown = each
            read = {"content": each}
        found.append(read)
    return found, unknown


def _listed(documents: object) -> list[Any]:
    try:
        listed = some_items(documents, MAX_DOCUMENTS)
        if listed is None:
            listed = found_in(documents)
        elif type(documents) is tuple and len(listed) == 2 and (pair := from_pair(listed)) is not None:
            return pair
        if listed is not None:
            return flat(listed)
    except BaseException as error:  # noqa: BLE001  foreign code: whatever a store's own result does
        reraise_signal(error)
    return [] if documents is None else [documents]


def _read(document: object) -> dict[str, Any] | None:
    try:
        return _document(document)
    except BaseException as error:  # noqa: BLE001  foreign code: a document, or its metaclass
        reraise_signal(error)
        return None


def _document(document: object) -> dict[str, Any] | None:
    score: Any = None
    row = _row(document)
    if row is not None:
        document = row
    elif (pair := some_items(document, 4)) is not None:
        if len(pair) == 3:
            return _triple(*pair)
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
        score = _score(document)
    content = _content(held)
    found_id = _id(held)
    if found_id is None and fields_of(held) is not None:
        found_id = _id(field(held, "document", "_additional", *_MORE_HOLDERS))
    if content is None and found_id is None and score is None:
        return None
    return _named(found_id, score, content, _about(held, content))


def _row(document: object) -> dict[str, Any] | None:
    """Return a row of a database as a dict of its columns, None if it is none, or one without names."""
    kind: Any = type(document)
    if kind is dict or kind is str:
        return None
    if (
        issubclass(kind, tuple)
        and kind is not tuple
        and type(names := getattr(kind, "_fields", None)) is tuple
    ):
        return dict(zip(names[:_FEW], tuple.__iter__(document), strict=False))  # type: ignore[arg-type]
    if not module_of(document).startswith(_ROWS):
        return None
    mapping: Any = field(document, "_mapping")
    held: Any = document if mapping is None else mapping
    try:
        return {str(name): held[name] for name in list(held.keys())[:_FEW]}
    except BaseException as error:  # noqa: BLE001  foreign code: a row of a database's client
        reraise_signal(error)
        return None


def _triple(first: Any, second: Any, third: Any) -> dict[str, Any] | None:
    """Return a row without names: an id, a text and a score, as a query of pgvector's has them."""
    text = text_of(second)
    if text is None or not _is_id(first) or not _is_score(third):
        return None
    return _named(first, third, text, None)


def _values(held: object, few: tuple[str, ...], many: tuple[str, ...]) -> Iterator[Any]:
    """Yield those of the fields that there are: of an object a few, of a dict or a model many."""
    known = fields_of(held)
    if known is not None:
        for name in many:
            if (found := known.get(name)) is not None:
                yield found
    elif held is not None:
        for name in few:
            if (found := field(held, name)) is not None:
                yield found


def _score(document: object) -> Any:
    for name in ("", "metadata", "_additional"):
        held = field(document, name) if name else document
        for found in _values(held, _SCORES, _MORE_SCORES):
            text = text_of(found)
            score = found if text is None else _plain_number(text)  # Weaviate's and Redis's are texts
            if _is_score(score):
                return score
    return None


def _id(held: object) -> object:
    for found in _values(held, _IDS, _MORE_IDS):
        if _is_id(found):
            return found
        if type(found).__name__ == "ObjectId":
            return str(found)
    return None


def _content(held: object) -> Any:
    for found in _values(held, _CONTENTS, _MORE_CONTENTS):
        if (text := _text(found)) is not None:
            return text
    text = text_of(path(held, "text_resource", "text"))  # LlamaIndex, since 0.12
    if text is not None:
        return text
    for inside in _values(held, _HOLDERS, _MORE_HOLDERS):
        for found in _values(inside, (), _MORE_CONTENTS):
            if (text := _text(found)) is not None:
                return text
    return None


def _text(content: object) -> str | None:
    """Return a text, or that in a block, or in the first of a list of blocks."""
    if (text := text_of(content)) is not None or content is None:
        return text
    listed = some_items(content, 1)
    return text_of(field(listed[0] if listed else content, "text"))


def _about(held: object, content: object) -> object:
    """Return what there is beside a document's text: its metadata, or the other fields of a record."""
    found: object = None
    for name in _HOLDERS if fields_of(held) is None else _MORE_HOLDERS:
        about = field(held, name)
        if about is None or text_of(about) is not None:
            continue
        if type(about) is dict:
            return {key: value for key, value in list(about.items())[:_FEW] if value is not content}
        found = about if found is None and name in _METADATA else found
    if found is None and type(held) is dict:
        found = {
            name: value
            for name, value in list(held.items())[:_FEW]
            if value is not None and name not in _READ and value is not content
        }
    return found


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
