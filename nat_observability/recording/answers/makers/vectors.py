"""Answers without messages: embeddings, moderations, rankings and images."""

from __future__ import annotations

from typing import Any

from nat_observability.recording.answers.draft import Draft
from nat_observability.recording.answers.fields import (
    count_of,
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
    """Read embeddings: in OpenAI's form, as most are, those of Voyage, Bedrock, watsonx and Vertex, or bare vectors."""
    found = _listed(answer)
    if found is not None:
        listed, vectors = found
        draft.head(field(answer, "id"), field(answer, "model", "model_id"))
        draft.vectors(length_of(listed) if vectors[0] is not listed else 1, _dimensions(vectors[0]))
        draft.provider = draft.provider or _maker(answer)
        _count_input(draft, answer)
        if field(answer, "usage", *_INPUT_COUNTS) is None:
            tokens = [
                count_of(path(each, "embeddings", "statistics", "token_count")) for each in items(listed)
            ]
            if any(tokens):
                draft.used({"total_tokens": sum(filter(None, tokens))}, only_input=True)
        return True
    shape = _shape(answer)
    if shape is None:
        return False
    draft.vectors(*shape)
    return True


_INPUT_COUNTS = ("inputTextTokenCount", "input_token_count", "total_tokens", "prompt_tokens")
_VECTORS = (
    ("data", ("embedding",)),
    ("results", ("embedding",)),
    ("predictions", ("embeddings", "values")),
)


def _listed(answer: object) -> tuple[object, list[Any]] | None:
    """Return the list that embeddings are in, and the first of them."""
    for name, inside in _VECTORS:
        listed = field(answer, name)
        first = items(listed, 1)
        if first and (vector := path(first[0], *inside)) is not None:
            return listed, [vector]
    listed = field(answer, "data")
    first = items(listed, 1)
    if first and _is_vector(values := field(first[0], "values")):
        return listed, [values]  # Pinecone's
    several = field(answer, "embeddings")
    first = items(several, 1)
    if first and _is_vector(first[0]):
        return several, first
    single = field(answer, "embedding")
    return (single, [single]) if _is_vector(single) else None


def _dimensions(vector: object) -> int:
    text = text_of(vector)
    if text is None:
        return length_of(vector)
    return (len(text) * 3 // 4 - text[-2:].count("=")) // 4  # floats of four bytes each, in base64


def _maker(answer: object) -> str | None:
    if field(answer, "inputTextTokenCount") is not None:
        return "aws.bedrock"
    if field(answer, "predictions") is not None:
        return "gcp.vertex_ai"
    return None if field(answer, "model_id") is None else "ibm.watsonx.ai"


def _is_vector(value: object) -> bool:
    first = items(value, 1)
    return bool(first) and type(first[0]) in (int, float)


def _count_input(draft: Draft, answer: object) -> None:
    usage = field(answer, "usage")
    if usage is None and (count := field(answer, *_INPUT_COUNTS)) is not None:
        usage = {"total_tokens": count}
    if usage is None or field(usage, "total_tokens", "prompt_tokens", "input_tokens", "tokens") is not None:
        draft.used(usage, only_input=True)


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
    # The servers of open models answer with the list alone.
    results = some_items(answer) or some_items(field(answer, "results", "data", "rankings"))
    if not results or not _is_ranked(results[0]):
        return False
    draft.head(field(answer, "id"), field(answer, "model", "model_id"))
    ranked = []
    for result in results:
        held = field(result, "document", "input")
        place = field(result, "index", "id")
        each: dict[str, Any] = {"score": field(result, *_RELEVANCE)}
        if place is not None:
            each = {"id": str(place) if type(place) is int else text_of(place)} | each
        text = text_of(held) or text_of(field(held, "text", "content"))
        text = text or text_of(path(held, "textDocument", "text")) or text_of(field(result, "text"))
        ranked.append(each if text is None else each | {"content": text})
    draft.output = ranked
    draft.attribute("gen_ai.retrieval.documents", ranked)
    _count_input(draft, answer)
    return True


_RELEVANCE = ("relevance_score", "relevanceScore", "score", "logit")


def _is_ranked(result: object) -> bool:
    if field(result, "relevance_score", "relevanceScore") is not None:
        return True
    return field(result, "score", "logit") is not None and type(field(result, "index")) is int


def read_images(draft: Draft, answer: object) -> bool:
    """Read images that a model has made: where they are, or how large."""
    data = some_items(field(answer, "data"))
    if not data or field(data[0], "b64_json", "url") is None:
        # Of Titan and Nova: each the text of its base64.
        data = items(field(answer, "images"))
        if not data or text_of(data[0]) is None:
            return False
        data = [{"b64_json": image} for image in data]
    draft.used(field(answer, "usage"))
    message = draft.message()
    for at, image in enumerate(data):
        add_media(message, "image", image, at)
    return True
