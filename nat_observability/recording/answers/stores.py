"""found_in(): the documents inside what a vector store or a search engine returns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from nat_observability.recording.answers.fields import (
    field,
    is_number,
    items,
    module_of,
    path,
    some_items,
    text_of,
)

MAX_DOCUMENTS = 1000
# Where the list of what was found is, one name in the other.
_LISTS: tuple[tuple[str, ...], ...] = (
    ("documents",),  # LangChain, Haystack
    ("source_nodes",),  # LlamaIndex
    ("matches",),  # Pinecone
    ("result", "hits"),  # Pinecone, with its own embeddings
    ("points",),  # Qdrant
    ("result", "points"),
    ("objects",),  # Weaviate
    ("hits", "hits"),  # Elasticsearch, OpenSearch
    ("hits",),  # Typesense, Meilisearch, Marqo
    ("docs",),  # Redis
    ("retrievalResults",),  # Bedrock's knowledge bases
    ("search_results",),  # Vectara
    ("root", "children"),  # Vespa
    ("results",),
    ("result",),
    ("data",),  # Supabase, OpenAI's vector stores
    ("rows",),
)
_COLUMNS = ("ids", "documents", "metadatas", "distances", "scores")
_MAX_CLASSES = 16


def found_in(result: object) -> list[Any] | None:
    """Return the documents in a result, one after the other however many queries it is of; None of anything else."""
    held = (
        field(result, "body") if module_of(result).startswith(("elastic_transport", "opensearch")) else None
    )
    result = result if held is None else held
    columns = _from_columns(result)
    if columns is not None:
        return columns
    for names in _LISTS:
        listed = some_items(path(result, *names), MAX_DOCUMENTS)
        if listed is not None:
            return flat(listed)
    groups = some_items(field(result, "groups"), MAX_DOCUMENTS)  # Qdrant's
    if groups is not None:
        return list(_first(each for group in groups for each in items(field(group, "hits"))))
    return _from_classes(path(result, "data", "Get"))


def flat(listed: list[Any]) -> list[Any]:
    """Return what is in lists in a list, as Milvus has one for each query, or the list as it is."""
    if not listed or _hits(listed[0]) is None:
        return listed
    inside = [_hits(each) for each in listed]
    if all(each is not None and _are_documents(each) for each in inside) and any(inside):
        return list(_first(each for hits in inside for each in hits or ()))
    return listed


def _are_documents(values: list[Any]) -> bool:
    return all(text_of(each) is None and field(each, "id", "distance") is not None for each in values[:2])


def _hits(value: object) -> list[Any] | None:
    """Return what a list holds, and of Milvus's `Hits`, which are no list in every version, the first of them."""
    found = some_items(value, MAX_DOCUMENTS)
    if found is not None:
        return found
    if module_of(value).startswith("pymilvus"):
        return list(itertools.islice(iter(value), MAX_DOCUMENTS))  # type: ignore[call-overload]
    return None


def _first(values: Iterable[Any]) -> Iterable[Any]:
    return itertools.islice(values, MAX_DOCUMENTS)


def _from_columns(result: object) -> list[Any] | None:
    """Return the documents of a result in columns: Chroma's, of one query or several, or of none."""
    ids = some_items(field(result, "ids"), MAX_DOCUMENTS)
    if ids is None or field(result, "documents", "metadatas", "distances") is None:
        return None
    columns: dict[str, list[Any]] = {name: items(field(result, name)) for name in _COLUMNS}
    if not ids or some_items(ids[0]) is not None:
        columns = {
            name: [inner for each in column for inner in items(each)] for name, column in columns.items()
        }
    rows: list[Any] = []
    for at, document_id in enumerate(columns["ids"][:MAX_DOCUMENTS]):
        row = {name: column[at] for name, column in columns.items() if at < len(column)}
        rows.append(
            {
                "id": document_id,
                "content": row.get("documents"),
                "metadata": row.get("metadatas"),
                "score": row.get("distances", row.get("scores")),
            }
        )
    return rows


def _from_classes(classes: object) -> list[Any] | None:
    """Return the documents in an answer of Weaviate's GraphQL, which has a list for each class."""
    if type(classes) is not dict:
        return None
    lists = [items(each) for each in list(classes.values())[:_MAX_CLASSES]]
    return list(_first(each for listed in lists for each in listed))


def from_pair(pair: list[Any]) -> list[Any] | None:
    """Return the documents of FAISS's distances and ids, or of Qdrant's `scroll`; None of any other pair."""
    first, second = pair
    if all(module_of(each).startswith("numpy") and type(field(each, "shape")) is tuple for each in pair):
        distances, ids = _numbers(first), _numbers(second)
        if len(distances) != len(ids) or not all(type(each) is int for each in ids):
            return None
        # FAISS fills up with -1 what it has not found.
        return [
            {"id": found, "score": distance}
            for distance, found in zip(distances, ids, strict=True)
            if found != -1
        ]
    listed = some_items(first, MAX_DOCUMENTS)
    is_offset = second is None or type(second) in (int, str)
    if listed and is_offset and field(listed[0], "payload") is not None:
        return listed
    return None


def _numbers(array: Any) -> list[Any]:
    if field(array, "size") > MAX_DOCUMENTS:
        return []
    listed = array.tolist()
    flat = [each for row in listed for each in (row if type(row) is list else [row])]
    return flat if all(is_number(each) for each in flat) else []
