"""Texts of the kinds that agents carry, none of them twice: redaction remembers what it has seen."""

from __future__ import annotations

import re
from random import Random

_WORDS = tuple(
    re.findall(
        r"\w+",
        """
        the agent answers a question about weather in Paris and looks up documents with a search tool then
        it reads the second result because first was too old temperature wind forecast tomorrow morning rain
        expected west model returns list of places ranked by distance user asks again for cheaper hotel near
        station budget two nights booking confirmed reference number summary written for customer please
        check calendar meeting moved to friday function retry response status error timeout connection
        server request payload value index table column query
        """,
    )
)

Message = dict[str, str]


class Payloads:
    """Makes texts and conversations from words in random order, the same in every process that starts with `seed`."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)

    def text(self, size: int) -> str:
        """Return about `size` characters of prose."""
        return " ".join(self._random.choices(_WORDS, k=max(1, size // 6)))

    def history(self, size: int, message: int = 1000) -> list[Message]:
        """Return a conversation of about `size` characters, in messages of about `message` characters."""
        return self.turns(max(1, size // message), message)

    def turns(self, count: int, message: int = 1000) -> list[Message]:
        """Return that many messages, of the user's and the assistant's in turn."""
        roles = ("user", "assistant")
        return [{"role": roles[number % 2], "content": self.text(message)} for number in range(count)]
