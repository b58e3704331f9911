"""add_citations(): what a text of a model refers to, of any maker's form, as `citations` of its part."""

from __future__ import annotations

from typing import Any

from nat_observability.recording.answers.draft import MAX_NAME, Draft, Message
from nat_observability.recording.answers.fields import field, path, some_items, text_of

_LONGEST = 2048  # characters of what is cited, or of an address
_TITLES = ("title", "document_title", "filename")
_ADDRESSES = ("url", "uri", "source_url", "source")
_IDS = ("file_id", "document_id", "id")
_TEXTS = ("cited_text", "text", "quote", "snippet")
# In the answer, or in what is cited; each maker has names of its own for its own way of counting.
_PLACES = (
    "start_index",
    "end_index",
    "start",
    "end",
    "index",
    "document_index",
    "search_result_index",
    "start_char_index",
    "end_char_index",
    "start_page_number",
    "end_page_number",
    "start_block_index",
    "end_block_index",
)
_GEMINI_PLACES = {"start_index": ("start_index", "startIndex"), "end_index": ("end_index", "endIndex")}


def add_citations(message: Message, listed: object, key: object = None) -> None:
    """
    Add the citations, or annotations, of a text.

    Args:
        key: Of the text's part; by default the message's last text.
    """
    _add(message, _citations(message, message.items(listed)), key)


def _citations(message: Message, listed: list[Any]) -> list[dict[str, Any]]:
    read = [_citation(message, each) for each in listed[: message.take_citations(len(listed))]]
    return [each for each in read if each is not None]


def add_citation(message: Message, citation: object, key: object) -> None:
    """Add one citation, as a stream gives it."""
    _add(message, _citations(message, [citation]), key)


def _add(message: Message, found: list[dict[str, Any]], key: object) -> None:
    if found and (part := message.text_part(key)) is not None:
        kept = part.fields.setdefault("citations", [])
        if kept[-len(found) :] == found:
            return  # each chunk of Perplexity's says once more what the first has said
        kept += [each for each in found if each not in kept]


def _citation(message: Message, citation: object) -> dict[str, Any] | None:
    address = text_of(citation)
    if address is not None:
        return {"url": _short(address)} if address else None  # Perplexity's
    kind = text_of(field(citation, "type"))
    inside = None if kind is None else field(citation, kind)  # OpenAI's chats have it in a field of that name
    held = citation if inside is None or text_of(inside) is not None else inside
    made = _named(held)
    for name in _PLACES:
        place = field(held, name)
        if type(place) is int:
            made[name] = place
    sources = _sources(message, held)
    if sources:
        made["sources"] = sources
    if not made:
        return None
    return made if kind is None else {"type": kind[:MAX_NAME], **made}


def _named(held: object) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for what, names in (("title", _TITLES), ("url", _ADDRESSES), ("id", _IDS), ("text", _TEXTS)):
        text = text_of(field(held, *names))
        if text:
            made[what] = _short(text)
    return made


def _sources(message: Message, held: object) -> list[dict[str, Any]]:
    """Return what Cohere's citations, and those of Bedrock, refer to."""
    made: list[dict[str, Any]] = []
    listed = message.items(field(held, "sources", "document_ids", "sourceContent"))
    for source in listed[: message.take_citations(len(listed))]:
        source_id = text_of(source)
        document = field(source, "document", "tool_output")
        found = {"id": _short(source_id)} if source_id else _named(source) | _named(document)
        if found:
            made.append(found)
    return made


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"[cut:{len(text)}]"


def add_grounding(draft: Draft, message: Message, candidate: object) -> None:
    """Add what Gemini's candidate says of the search behind it, and of what it repeats."""
    add_citations(
        message,
        field(
            field(candidate, "citation_metadata", "citationMetadata"),
            "citations",
            "citation_sources",
            "citationSources",
        ),
    )
    grounding = field(candidate, "grounding_metadata", "groundingMetadata")
    if grounding is None:
        return
    listed = message.items(field(grounding, "grounding_chunks", "groundingChunks"))
    chunks = [_chunk(each) for each in listed[: message.take_citations(len(listed))]]
    supports = message.items(field(grounding, "grounding_supports", "groundingSupports"))
    supports = supports[: message.take_citations(len(supports))]
    found: list[dict[str, Any]] = []
    for support in supports:
        segment = field(support, "segment")
        made = _named(segment)
        for name, names in _GEMINI_PLACES.items():
            place = field(segment, *names)
            if type(place) is int:
                made[name] = place
        places = some_items(field(support, "grounding_chunk_indices", "groundingChunkIndices"), 32) or ()
        made["sources"] = [chunks[at] for at in places if type(at) is int and 0 <= at < len(chunks)]
        found.append(made)
    _add(message, found or [each for each in chunks if each], None)
    queries = some_items(field(grounding, "web_search_queries", "webSearchQueries"), 32) or ()
    asked = [_short(text) for each in queries if (text := text_of(each))]
    draft.attribute("gcp.gen_ai.web_search_queries", asked or None)


def _chunk(chunk: object) -> dict[str, Any]:
    return _named(field(chunk, "web", "retrieved_context", "retrievedContext", "maps"))


def add_cited_block(message: Message, block: object, key: object) -> None:
    """Add Bedrock's block of a text with what it cites."""
    for piece in message.items(field(block, "content")):
        message.text("text", field(piece, "text"), key)
    for citation in message.items(field(block, "citations")):
        where = _named(path(citation, "location", "web"))
        _add(message, [made | where for made in _citations(message, [citation])], key)
