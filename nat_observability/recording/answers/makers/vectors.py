"""Answers without messages: embeddings, moderations, rankings and images."""

from __future__ import annotations

from typing import Any

from nat_observability.recording.answers.draft import Draft
from nat_observability.recording.answers.fields import (
    field,
    items,
    length_of,
    module_of,
    path,
    some_items,
    text_of,
)
from nat_observability.recording.answers.parts import add_media

_MAX_CATEGORIES = 100


def read_embeddings(draft: Draft, answer: object) -> bool:
    """Read OpenAI's embeddings, which Mistral, LiteLLM and others answer in too, or bare vectors."""
    data = some_items(field(answer, "data"))
    if data and (first := field(data[0], "embedding")) is not None:
        draft.head(field(answer, "id"), field(answer, "model"))
        draft.vectors(length_of(field(answer, "data")), length_of(first))
        draft.used(field(answer, "usage"), only_input=True)
        return True
    shape = _shape(answer)
    if shape is None:
        return False
    draft.vectors(*shape)
    return True


def _shape(value: object) -> tuple[int, int] | None:
    first = items(value, 1)
    if first:
        if type(first[0]) is float:
            return 1, length_of(value)
        inside = items(first[0], 1)
        if inside and type(inside[0]) is float:
            return length_of(value), length_of(first[0])
        if not module_of(first[0]).startswith("numpy"):
            return None
        shape = field(first[0], "shape")
        return (length_of(value), shape[0]) if type(shape) is tuple and len(shape) == 1 else None
    if module_of(value).partition(".")[0] in ("numpy", "torch", "jax", "tensorflow"):
        shape = items(field(value, "shape"), 3)
        if len(shape) in (1, 2) and all(type(each) is int for each in shape):
            return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])
    return None


def read_moderation(draft: Draft, answer: object) -> bool:
    """Read what a moderation has found: the categories that apply, and their scores."""
    results = some_items(field(answer, "results"), _MAX_CATEGORIES)
    if not results or (field(results[0], "flagged") is None and field(results[0], "categories") is None):
        return False
    draft.head(field(answer, "id"), field(answer, "model"))
    draft.output = [_verdict(result) for result in results]
    draft.used(field(answer, "usage"))
    return True


def _verdict(result: object) -> dict[str, Any]:
    found = field(result, "categories")
    scores = field(result, "category_scores")
    named = _named(found)
    flagged = field(result, "flagged")
    applied = [name for name, applies in named.items() if applies is True]
    return {
        "flagged": flagged if type(flagged) is bool else bool(applied),
        "categories": applied,
        "scores": {name: score for name, score in _named(scores).items() if type(score) is float},
    }


def _named(value: object) -> dict[str, Any]:
    kept = value if type(value) is dict else field(value, "__dict__")
    if type(kept) is not dict:
        return {}
    # As the client's objects have them: `hate/threatening` is `hate_threatening` there.
    return {
        name.replace("/", "_").replace("-", "_"): each
        for name, each in list(kept.items())[:_MAX_CATEGORIES]
        if type(name) is str
    }


def read_ranking(draft: Draft, answer: object) -> bool:
    """Read a reranker's results: which documents, and how relevant each is."""
    results = some_items(field(answer, "results", "data"))
    if not results or field(results[0], "relevance_score") is None:
        return False
    draft.head(field(answer, "id"), field(answer, "model"))
    ranked = []
    for result in results:
        each: dict[str, Any] = {"id": str(field(result, "index")), "score": field(result, "relevance_score")}
        text = text_of(field(result, "document")) or text_of(path(result, "document", "text"))
        ranked.append(each if text is None else each | {"content": text})
    draft.output = ranked
    draft.attribute("gen_ai.retrieval.documents", ranked)
    draft.used(field(answer, "usage"), only_input=True)
    return True


def read_images(draft: Draft, answer: object) -> bool:
    """Read images that a model has made: where they are, or how large."""
    data = some_items(field(answer, "data"))
    if not data or field(data[0], "b64_json", "url") is None:
        return False
    draft.used(field(answer, "usage"))
    message = draft.message()
    for at, image in enumerate(data):
        add_media(message, "image", image, at)
    return True
