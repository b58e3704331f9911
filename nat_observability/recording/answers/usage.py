"""token_usage(): what a model call has used, whichever maker counted it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from msgspec.structs import astuple

from nat_observability.events import TokenUsage
from nat_observability.recording.answers.fields import (
    count_of,
    field,
    fields_of,
    is_number,
    reader,
    some_items,
    text_of,
)
from nat_observability.recording.answers.unknown import note_unknown

_MAX = 2**63 - 1

# Of every field, the first name that has a count. The same names mean the same in all of them, except for what
# `_APART` says.
_PROMPT = (
    "prompt_tokens",  # OpenAI chat, Mistral, LiteLLM
    "input_tokens",  # OpenAI Responses, Anthropic, LangChain, Cohere
    "prompt_token_count",  # Gemini
    "prompt_eval_count",  # Ollama
    "inputTokens",  # Bedrock
    "promptTokens",
    "promptTokenCount",
    "inputTokenCount",
    "request_tokens",
)
_COMPLETION = (
    "completion_tokens",
    "output_tokens",
    "candidates_token_count",
    "eval_count",
    "outputTokens",
    "completionTokens",
    "candidatesTokenCount",
    "outputTokenCount",
    "response_tokens",
    "response_token_count",  # Gemini, live
)
_TOTAL = ("total_tokens", "total_token_count", "totalTokens", "totalTokenCount")
_CACHED = (
    "cached_tokens",
    "cache_read_input_tokens",
    "cached_content_token_count",
    "cacheReadInputTokens",
    "cache_read_tokens",
    "prompt_cache_hit_tokens",  # DeepSeek
    "num_cached_tokens",
    "cachedContentTokenCount",
    "cacheReadInputTokenCount",
)
_CACHE_WRITE = (
    "cache_write_tokens",
    "cache_creation_input_tokens",
    "cacheWriteInputTokens",
    "cacheWriteInputTokenCount",
)
_REASONING = ("reasoning_tokens", "thoughts_token_count", "thoughtsTokenCount")
_AUDIO_INPUT = ("audio_input_tokens", "input_audio_tokens")
_AUDIO_OUTPUT = ("audio_output_tokens", "output_audio_tokens")
_IMAGE_INPUT = ("image_input_tokens",)

_MODALITY_COUNT = ("token_count", "tokenCount")


class _Details(NamedTuple):
    """What is counted once more by kind: in an object with names of its own, or, by Gemini, in a list of modalities."""

    fields: tuple[str, ...]
    inside: tuple[tuple[str, tuple[str, ...]], ...]
    modalities: Mapping[str, str]


_DETAILS = (
    _Details(
        (
            "prompt_tokens_details",
            "input_tokens_details",
            "input_token_details",
            "promptTokensDetails",
        ),
        (
            ("cached", ("cached_tokens", "cache_read", "cache_read_tokens")),
            ("cache_write", ("cache_write_tokens", "cache_creation", "cache_creation_tokens")),
            ("audio_input", ("audio_tokens", "audio")),
            ("image_input", ("image_tokens", "image")),
        ),
        {"AUDIO": "audio_input", "IMAGE": "image_input"},
    ),
    _Details(
        (
            "completion_tokens_details",
            "output_tokens_details",
            "output_token_details",
            "candidates_tokens_details",
            "candidatesTokensDetails",
            "response_tokens_details",
        ),
        (
            ("reasoning", ("reasoning_tokens", "reasoning", "thinking_tokens")),
            ("audio_output", ("audio_tokens", "audio")),
        ),
        {"AUDIO": "audio_output"},
    ),
)
# Those who count what they read from a cache, or wrote to one, apart from the prompt. The conventions count it as part
# of the input: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md
_APART = {
    "input_tokens": ("cache_read_input_tokens", "cache_creation_input_tokens"),  # Anthropic
    "inputTokens": ("cacheReadInputTokens", "cacheWriteInputTokens"),  # Bedrock
    "inputTokenCount": ("cacheReadInputTokenCount", "cacheWriteInputTokenCount"),
    "prompt_token_count": ("tool_use_prompt_token_count",),  # Gemini
    "promptTokenCount": ("toolUsePromptTokenCount",),
}
_LIFETIMES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_REASONING_APART = ("thoughts_token_count", "thoughtsTokenCount")


_COUNTS = {
    "completion": _COMPLETION,
    "total": _TOTAL,
    "cached": _CACHED,
    "cache_write": _CACHE_WRITE,
    "reasoning": _REASONING,
    "audio_input": _AUDIO_INPUT,
    "audio_output": _AUDIO_OUTPUT,
    "image_input": _IMAGE_INPUT,
}
_NONE = {"prompt": 0} | dict.fromkeys(_COUNTS, 0)
_ALL = frozenset(
    itertools.chain(
        _PROMPT,
        itertools.chain.from_iterable(_COUNTS.values()),
        itertools.chain.from_iterable(details.fields for details in _DETAILS),
    )
)


_MAX_NAMES = 64  # of an object whose names are remembered
_MAX_NAMED = 4096  # characters in them

_Names = tuple[tuple[str, tuple[str, ...]], ...]


class _Among(NamedTuple):
    """Those of the known names that an object has, without what it has none of."""

    prompt: tuple[str, ...]
    counts: _Names
    details: tuple[tuple[int, tuple[str, ...]], ...]  # by their place


def _present(known: Iterable[tuple[str, Iterable[str]]], names: Iterable[object]) -> _Names:
    found = [(what, tuple([name for name in each if name in names])) for what, each in known]
    return tuple([pair for pair in found if pair[1]])


def _chosen(names: Iterable[object]) -> _Among:
    details = [
        (at, tuple([name for name in each.fields if name in names])) for at, each in enumerate(_DETAILS)
    ]
    return _Among(
        tuple([name for name in _PROMPT if name in names]),
        _present(_COUNTS.items(), names),
        tuple([pair for pair in details if pair[1]]),
    )


def _names_of(source: Any, held: dict[str, Any]) -> Any:
    """Return what may be remembered for the names of an object's fields: its class, or the names; None if nothing."""
    kind: Any = type(source)
    if kind is not dict and held is source.__dict__ and len(held) == len(kind.__pydantic_fields__):
        return kind
    is_small = len(held) <= _MAX_NAMES and set(map(type, held)) <= {str} and sum(map(len, held)) <= _MAX_NAMED
    return tuple(held) if is_small else None


@functools.lru_cache(maxsize=256)
def _among(names: Any) -> _Among:
    return _chosen(names if type(names) is tuple else names.__pydantic_fields__)


@functools.lru_cache(maxsize=256)
def _inside(at: int, names: Any) -> _Names:
    return _present(_DETAILS[at].inside, names if type(names) is tuple else names.__pydantic_fields__)


class _Counts:
    """What is found of one usage, and whether a number in it was not a count."""

    __slots__ = ("found", "is_wrong", "source")

    def __init__(self, source: object) -> None:
        self.source = source
        self.found = False
        self.is_wrong = False

    def named(self, read: Callable[[str], Any], names: Iterable[str]) -> tuple[str, int]:
        """Return the first name with a count, and the count; an empty name and 0 if there is none."""
        for name in names:
            value = read(name)
            if value is None:
                continue
            count = value if type(value) is int and 0 <= value <= _MAX else count_of(value)
            if count is not None:
                self.found = True
                return name, count
            if is_number(value):
                self.is_wrong = True
        return "", 0

    def of(self, read: Callable[[str], Any], names: tuple[str, ...]) -> int:
        """Return the first count, 0 if there is none."""
        value = read(names[0])
        if type(value) is int and 0 <= value <= _MAX:
            self.found = True
            return value
        return self.named(read, names)[1]


def token_usage(usage: object, *, only_input: bool = False) -> TokenUsage | None:
    """
    Return `usage` as `TokenUsage`: from one, or from the object or mapping that a model client gives. Never raises.

    Tokens of a cache are part of the prompt, and reasoning is part of the completion, whether the maker counts them
    so or apart. A missing total is the sum of prompt and completion; a total alone is logged. What is not a count (a
    bool, a negative number, one with a fraction, a stand-in's attribute) is 0 and logged. None if nothing in it is a
    count.

    Args:
        only_input: Whether the call has nothing but a prompt, which is then the total too.
    """
    if type(usage) is TokenUsage:
        return _checked(usage)
    counts = _Counts(usage)
    read = _read(counts)
    if not counts.found and (both := _billed_and_other(usage)) is not None:
        billed, tokens = both
        counts = _Counts(billed)
        read = _read(counts)
        of_tokens = _read(also := _Counts(tokens))
        counts.found = counts.found or also.found
        counts.is_wrong = counts.is_wrong or also.is_wrong
        for name, count in of_tokens.items():
            read[name] = read[name] or count
    is_total_alone = bool(read["total"]) and not (read["prompt"] or read["completion"])
    if is_total_alone and only_input:
        read["prompt"] = read["total"]
    elif not counts.found or counts.is_wrong or is_total_alone:
        note_unknown("usage", usage)
    return _usage(read) if counts.found else None


def _billed_and_other(usage: object) -> tuple[object, object] | None:
    """Return the two usages that Cohere's has: the conventions want the one that the customer pays for."""
    get = reader(usage)
    billed, tokens = get("billed_units"), get("tokens")
    return None if billed is None and tokens is None else (billed, tokens)


def _read(counts: _Counts) -> dict[str, int]:
    held = fields_of(counts.source)
    if held is None:
        get, among = reader(counts.source), _chosen(_ALL)
    else:
        # Most of the names are those of other makers.
        names = _names_of(counts.source, held)
        get, among = held.get, _chosen(held) if names is None else _among(names)
    named, prompt = counts.named(get, among.prompt)
    read = _NONE.copy()
    read["prompt"] = prompt
    for what, names in among.counts:
        read[what] = counts.of(get, names)
    for at, names in among.details:
        for name in names:
            if (inside := get(name)) is not None:
                _add_details(counts, read, at, inside)
    if not read["cache_write"] and (written := get("cache_creation")) is not None:
        # By their time to live, if their sum is missing.
        read["cache_write"] = sum(counts.of(reader(written), (name,)) for name in _LIFETIMES)
        read["prompt"] += read["cache_write"] if named == "input_tokens" else 0
    for name in _APART.get(named, ()):
        read["prompt"] += counts.of(get, (name,))
    if read["reasoning"]:
        _add_reasoning(get, read)
    return read


def _add_details(counts: _Counts, read: dict[str, int], at: int, held: object) -> None:
    inside = fields_of(held)
    listed = some_items(held) if inside is None else None
    if listed is None:
        get = reader(held) if inside is None else inside.get
        known = None if inside is None else _names_of(held, inside)
        for name, names in _DETAILS[at].inside if known is None else _inside(at, known):
            read[name] = read[name] or counts.of(get, names)
        return
    modalities = _DETAILS[at].modalities
    for each in listed:
        name = modalities.get((text_of(field(each, "modality")) or "").upper(), "")
        if name:
            read[name] += counts.of(reader(each), _MODALITY_COUNT)


def _add_reasoning(get: Callable[[str], Any], read: dict[str, int]) -> None:
    """Make reasoning a part of the completion: Gemini and xAI count it apart, as their total shows."""
    prompt, completion, total = read["prompt"], read["completion"], read["total"]
    reasoning = read["reasoning"]
    if total and total == prompt + completion:
        return
    if total == prompt + completion + reasoning or any(get(name) is not None for name in _REASONING_APART):
        read["completion"] += reasoning


def _usage(read: dict[str, int]) -> TokenUsage:
    if max(read.values()) > _MAX:  # sums may be
        read = {name: min(count, _MAX) for name, count in read.items()}
    prompt, completion = read["prompt"], read["completion"]
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        # Bedrock's total leaves out, or not, what was read from the cache.
        total_tokens=max(read["total"], min(prompt + completion, _MAX)),
        cached_tokens=read["cached"],
        reasoning_tokens=read["reasoning"],
        cache_write_tokens=read["cache_write"],
        audio_input_tokens=read["audio_input"],
        audio_output_tokens=read["audio_output"],
        image_input_tokens=read["image_input"],
    )


def _checked(usage: TokenUsage) -> TokenUsage | None:
    """Return a `TokenUsage` with counts only, and its total."""
    counts = astuple(usage)
    if usage.total_tokens and set(map(type, counts)) == {int} and min(counts) >= 0 and max(counts) <= _MAX:
        return usage
    read: dict[str, int] = {}
    is_wrong = False
    for name in TokenUsage.__struct_fields__:
        count = count_of(getattr(usage, name))
        is_wrong = is_wrong or count is None
        read[name] = count or 0
    if is_wrong:
        note_unknown("usage", usage)
        if not any(read.values()):
            return None
    if not read["total_tokens"]:
        read["total_tokens"] = min(read["prompt_tokens"] + read["completion_tokens"], _MAX)
    return TokenUsage(**read)


def joined_usage(first: TokenUsage | None, second: TokenUsage | None) -> TokenUsage | None:
    """Return the sum of two usages."""
    if first is None or second is None:
        return first if second is None else second
    return TokenUsage(
        **{
            name: min(getattr(first, name) + getattr(second, name), _MAX)
            for name in TokenUsage.__struct_fields__
        }
    )
