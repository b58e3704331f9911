"""What a model's text refers to: citations, annotations and groundings of seven makers."""

from __future__ import annotations

from typing import Any

import pytest

from nat_observability.recording.answers import AnswerJoiner, read_answer


def chat(**more: Any) -> dict[str, Any]:
    """Return an answer in OpenAI's form."""
    return {
        "id": "c",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Rain."}}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    } | more


PLACE = {
    "type": "char_location",
    "cited_text": "It rains",
    "document_index": 0,
    "document_title": "Weather",
    "start_char_index": 0,
    "end_char_index": 8,
    "file_id": None,
}
CITED_PLACE = {
    "type": "char_location",
    "title": "Weather",
    "text": "It rains",
    "document_index": 0,
    "start_char_index": 0,
    "end_char_index": 8,
}
ADDRESS = {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 4}
GEMINI = {
    "content": {"role": "model", "parts": [{"text": "Ra"}, {"text": "in."}]},
    "finishReason": "STOP",
    "groundingMetadata": {
        "webSearchQueries": ["rain"],
        "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}, {"retrievedContext": {"uri": "b"}}],
        "groundingSupports": [
            {
                "segment": {"startIndex": 0, "endIndex": 4, "text": "Rain"},
                "groundingChunkIndices": [0, 1, 7],
            }
        ],
    },
}

WHOLE: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "Anthropic": (
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {
                    "type": "text",
                    "text": "Rain.",
                    "citations": [
                        PLACE,
                        {
                            "type": "web_search_result_location",
                            "url": "https://a",
                            "title": "A",
                            "encrypted_index": "opaque",
                        },
                    ],
                }
            ],
        },
        [CITED_PLACE, {"type": "web_search_result_location", "title": "A", "url": "https://a"}],
    ),
    "OpenAI, responses": (
        {
            "object": "response",
            "output": [
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "Rain.",
                            "annotations": [
                                ADDRESS,
                                {
                                    "type": "file_citation",
                                    "file_id": "f-1",
                                    "filename": "a.txt",
                                    "index": 3,
                                },
                            ],
                        }
                    ],
                }
            ],
        },
        [ADDRESS, {"type": "file_citation", "title": "a.txt", "id": "f-1", "index": 3}],
    ),
    "OpenAI, a chat": (
        chat(
            choices=[
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {
                        "role": "assistant",
                        "content": "Rain.",
                        "annotations": [{"type": "url_citation", "url_citation": ADDRESS | {"type": None}}],
                    },
                }
            ]
        ),
        [ADDRESS],
    ),
    "Perplexity": (
        chat(
            search_results=[{"title": "A", "url": "https://a", "date": "2026-01-01"}], citations=["https://a"]
        ),
        [{"title": "A", "url": "https://a"}],
    ),
    "xAI": (chat(citations=["https://a", "https://b"]), [{"url": "https://a"}, {"url": "https://b"}]),
    "Bedrock": (
        {
            "stopReason": "end_turn",
            "output": {
                "message": {
                    "role": "assistant",
                    "content": [
                        {
                            "citationsContent": {
                                "content": [{"text": "Rain."}],
                                "citations": [
                                    {
                                        "title": "Weather",
                                        "sourceContent": [{"text": "It rains"}],
                                        "location": {"web": {"url": "https://a"}},
                                    }
                                ],
                            }
                        }
                    ],
                }
            },
        },
        [{"title": "Weather", "sources": [{"text": "It rains"}], "url": "https://a"}],
    ),
    "Cohere": (
        {
            "finish_reason": "COMPLETE",
            "message": {
                "role": "assistant",
                "content": [{"type": "text", "text": "Rain."}],
                "citations": [
                    {
                        "start": 0,
                        "end": 4,
                        "text": "Rain",
                        "sources": [
                            {
                                "type": "document",
                                "id": "doc:0",
                                "document": {"title": "T", "snippet": "It rains"},
                            }
                        ],
                    }
                ],
            },
        },
        [
            {
                "text": "Rain",
                "start": 0,
                "end": 4,
                "sources": [{"id": "doc:0", "title": "T", "text": "It rains"}],
            }
        ],
    ),
    "Cohere, before": (
        {
            "response_id": "r",
            "generation_id": "g",
            "text": "Rain.",
            "citations": [{"start": 0, "end": 4, "text": "Rain", "document_ids": ["doc_0"]}],
        },
        [{"text": "Rain", "start": 0, "end": 4, "sources": [{"id": "doc_0"}]}],
    ),
    "Gemini": (
        {"candidates": [GEMINI], "modelVersion": "g"},
        [
            {
                "text": "Rain",
                "start_index": 0,
                "end_index": 4,
                "sources": [{"title": "A", "url": "https://a"}, {"url": "b"}],
            }
        ],
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_a_text_refers_to_is_recorded_with_it(name: str) -> None:
    """Title, address or id, what is cited, and the places in the maker's own words."""
    answer, citations = WHOLE[name]
    read = read_answer(answer)
    assert read is not None
    assert read.messages[0]["parts"][-1]["citations"] == citations


def test_what_gemini_has_searched_for_is_an_attribute() -> None:
    """A whole answer and a stream have it."""
    read = read_answer({"candidates": [GEMINI], "modelVersion": "g"})
    assert read is not None
    assert read.attributes == {"gcp.gen_ai.web_search_queries": ["rain"]}


STREAMED: dict[str, tuple[list[Any], list[dict[str, Any]]]] = {
    "Anthropic": (
        [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "citations_delta", "citation": PLACE},
            },
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Rain."}},
        ],
        [CITED_PLACE],
    ),
    "OpenAI, responses": (
        [
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Rain."},
            {
                "type": "response.output_text.annotation.added",
                "output_index": 0,
                "content_index": 0,
                "annotation_index": 0,
                "annotation": ADDRESS,
            },
        ],
        [ADDRESS],
    ),
    "Perplexity": (
        [
            {"choices": [{"index": 0, "delta": {"content": text}}], "citations": ["https://a"]}
            for text in ("Ra", "in.")
        ],
        [{"url": "https://a"}],
    ),
    "Cohere": (
        [
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Rain."}}}},
            {
                "type": "citation-start",
                "index": 0,
                "delta": {"message": {"citations": {"start": 0, "end": 4, "text": "Rain"}}},
            },
        ],
        [{"text": "Rain", "start": 0, "end": 4}],
    ),
    "Bedrock": (
        [
            {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Rain."}}},
            {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"citation": {"title": "Weather"}}}},
        ],
        [{"title": "Weather"}],
    ),
    "Gemini": (
        [
            {"candidates": [{"content": {"parts": [{"text": "Rain."}]}}]},
            {"candidates": [GEMINI | {"content": {"parts": []}}]},
        ],
        WHOLE["Gemini"][1],
    ),
}


@pytest.mark.parametrize("name", STREAMED)
def test_what_a_streamed_text_refers_to_is_recorded_with_it(name: str) -> None:
    """Once, though some say it with each chunk."""
    events, citations = STREAMED[name]
    joiner = AnswerJoiner()
    for event in events:
        assert joiner.add(event) is not None
    read = joiner.answer()
    assert read is not None
    [part] = read.messages[0]["parts"]
    assert part == {"type": "text", "content": "Rain.", "citations": citations}


def test_citations_are_bounded() -> None:
    """In number for the whole answer, and each in its length."""
    read = read_answer(chat(citations=[f"https://a/{number}" for number in range(900)]))
    assert read is not None
    assert len(read.messages[0]["parts"][0]["citations"]) == 256
    read = read_answer(chat(citations=["https://" + "a" * 10_000]))
    assert read is not None
    assert read.messages[0]["parts"][0]["citations"] == [{"url": "[cut:10008]"}]
    joiner = AnswerJoiner()
    for number in range(900):
        joiner.add(
            {"choices": [{"index": 0, "delta": {"content": "x"}}], "citations": [f"https://a/{number}"]}
        )
    joined = joiner.answer()
    assert joined is not None
    assert len(joined.messages[0]["parts"][0]["citations"]) == 256


@pytest.mark.parametrize("odd", [[], [None], [1], [{}], ["", {"type": "x"}], {}, "text", [[]], None])
def test_what_is_no_citation_leaves_the_text(odd: Any) -> None:
    """The text alone is recorded."""
    for answer in (chat(citations=odd), {"role": "assistant", "content": "Rain.", "annotations": odd}):
        read = read_answer(answer)
        assert read is not None
        assert not read.messages[0]["parts"][0].get("citations")
