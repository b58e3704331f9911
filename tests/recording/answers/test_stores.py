"""documents() takes what vector stores and search engines return, as their clients have it."""

from __future__ import annotations

import collections
import sqlite3
import uuid
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import sqlalchemy

from nat_observability.recording.answers import retrieved

TEXT = {"text": "Rain.", "page": 3}
POINT = SimpleNamespace(id="d1", version=0, score=0.5, payload=TEXT, vector=None)
WHOLE = {"id": "d1", "score": 0.5, "content": "Rain.", "metadata": {"page": 3}}
BARE = {name: value for name, value in WHOLE.items() if name != "metadata"}
Row = collections.namedtuple("Row", ["id", "content", "similarity"])


class ObjectId:
    """As MongoDB's client has it."""

    def __str__(self) -> str:
        return "d1"


FOUND: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "Chroma": (
        {
            "ids": [["d1", "d2"], ["d1"]],
            "distances": [[0.5, 0.7], [0.9]],
            "documents": [["Rain.", "Sun."], ["Rain."]],
            "metadatas": [[{"page": 3}, None], [None]],
            "embeddings": None,
        },
        [
            WHOLE,
            {"id": "d2", "score": 0.7, "content": "Sun."},
            {"id": "d1", "score": 0.9, "content": "Rain."},
        ],
    ),
    "Chroma, get": (
        {"ids": ["d1"], "documents": ["Rain."], "metadatas": [{"page": 3}], "embeddings": None},
        [{name: value for name, value in WHOLE.items() if name != "score"}],
    ),
    "Chroma, nothing": ({"ids": [[]], "distances": [[]], "documents": [[]], "metadatas": [[]]}, []),
    "Qdrant": (SimpleNamespace(points=[POINT]), [WHOLE]),
    "Qdrant, a list": ([POINT], [WHOLE]),
    "Qdrant, over HTTP": (
        {"result": {"points": [{"id": "d1", "score": 0.5, "payload": TEXT}]}, "status": "ok"},
        [WHOLE],
    ),
    "Qdrant, groups": (SimpleNamespace(groups=[SimpleNamespace(id="g", hits=[POINT])]), [WHOLE]),
    "Qdrant, scroll": (([POINT], None), [WHOLE]),
    "Pinecone": (
        {"matches": [{"id": "d1", "score": 0.5, "values": [], "metadata": TEXT}], "namespace": ""},
        [WHOLE],
    ),
    "Pinecone, records": (
        {"result": {"hits": [{"_id": "d1", "_score": 0.5, "fields": {"chunk_text": "Rain.", "page": 3}}]}},
        [WHOLE],
    ),
    "Weaviate": (
        SimpleNamespace(
            objects=[
                SimpleNamespace(
                    uuid=uuid.UUID(int=1),
                    metadata=SimpleNamespace(distance=0.5, certainty=None, score=None),
                    properties=TEXT,
                    vector={},
                )
            ]
        ),
        [WHOLE | {"id": uuid.UUID(int=1)}],
    ),
    "Weaviate, GraphQL": (
        {"data": {"Get": {"Doc": [TEXT | {"_additional": {"id": "d1", "distance": 0.5}}]}}},
        [WHOLE],
    ),
    "Milvus": ([[{"id": 1, "distance": 0.5, "entity": TEXT}], []], [WHOLE | {"id": 1}]),
    "Elasticsearch, OpenSearch": (
        {"took": 1, "hits": {"total": {"value": 1}, "hits": [{"_id": "d1", "_score": 0.5, "_source": TEXT}]}},
        [WHOLE],
    ),
    "LanceDB": (
        [TEXT | {"vector": [0.1, 0.2], "_distance": 0.5}],
        [{name: value for name, value in WHOLE.items() if name != "id"}],
    ),
    "FAISS": (
        (numpy.array([[0.5, 3.4e38]], dtype="float32"), numpy.array([[7, -1]])),
        [{"id": 7, "score": 0.5}],
    ),
    "pgvector": ([("d1", "Rain.", 0.5)], [BARE]),
    "pgvector, dicts": (
        [{"id": "d1", "content": "Rain.", "metadata": {"page": 3}, "distance": 0.5}],
        [WHOLE],
    ),
    "pgvector, named tuples": ([Row("d1", "Rain.", 0.5)], [BARE]),
    "Redis": (
        SimpleNamespace(
            total=1, docs=[SimpleNamespace(id="d1", payload=None, vector_score="0.5", content="Rain.")]
        ),
        [BARE],
    ),
    "Azure AI Search": (
        [{"@search.score": 0.5, "@search.reranker_score": None, "id": "d1", "content": "Rain."}],
        [BARE],
    ),
    "MongoDB": ([{"_id": ObjectId(), "text": "Rain.", "page": 3, "score": 0.5}], [WHOLE]),
    "Typesense": (
        {"hits": [{"document": TEXT | {"id": "d1"}, "vector_distance": 0.5}]},
        [WHOLE | {"metadata": {"page": 3, "id": "d1"}}],
    ),
    "Meilisearch": ({"hits": [{"id": "d1", "title": "Rain.", "_rankingScore": 0.5}]}, [BARE]),
    "Vespa": ({"root": {"children": [{"id": "d1", "relevance": 0.5, "fields": TEXT}]}}, [WHOLE]),
    "Bedrock": (
        {"retrievalResults": [{"content": {"text": "Rain."}, "score": 0.5, "metadata": {"page": 3}}]},
        [{name: value for name, value in WHOLE.items() if name != "id"}],
    ),
    "OpenAI": (
        {
            "object": "vector_store.search_results.page",
            "data": [
                {
                    "file_id": "d1",
                    "score": 0.5,
                    "attributes": {"page": 3},
                    "content": [{"type": "text", "text": "Rain."}],
                }
            ],
        },
        [WHOLE],
    ),
    "Supabase": (
        SimpleNamespace(data=[{"id": "d1", "content": "Rain.", "similarity": 0.5}], count=None),
        [BARE],
    ),
    "Haystack": (
        {"documents": [SimpleNamespace(id="d1", content="Rain.", meta={"page": 3}, score=0.5)]},
        [WHOLE],
    ),
    "a search of the web": (
        {"results": [{"title": "Weather", "url": "https://a", "content": "Rain.", "score": 0.5}]},
        [{"score": 0.5, "content": "Rain.", "metadata": {"title": "Weather", "url": "https://a"}}],
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_a_store_has_found_is_recorded(name: str) -> None:
    """Id, score, content and metadata of each document, and no vectors."""
    result, documents = FOUND[name]
    found, unknown = retrieved(result)
    assert (found, unknown) == (documents, None)


def test_rows_of_a_database_are_documents() -> None:
    """By the names of their columns, whichever client has fetched them."""
    query = "SELECT 'd1' AS id, 'Rain.' AS content, 0.5 AS distance"
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    try:
        assert retrieved(connection.execute(query).fetchall()) == ([BARE], None)
    finally:
        connection.close()
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as of_engine:
        assert retrieved(of_engine.execute(sqlalchemy.text(query)).all()) == ([BARE], None)
    engine.dispose()


@pytest.mark.parametrize(
    "pair",
    [
        (numpy.array([[0.5]]), numpy.array([["a"]])),
        (numpy.zeros((50, 50)), numpy.zeros((50, 50), dtype=int)),
        (numpy.array([0.5]), numpy.array([1, 2])),
        (numpy.array([object()]), numpy.array([1])),
        ("a", "b"),
        ([], None),
    ],
)
def test_pairs_of_anything_else_are_left_as_they_are(pair: Any) -> None:
    """They are no distances and ids."""
    found, _ = retrieved(pair)
    assert all("id" not in document for document in found)
