"""Engine: a first look at a value with all that could be secret in one pass, where hyperscan is installed."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from nat_observability.processors.redaction.folding import CONTROLS, ODD_BYTES, fold
from nat_observability.processors.redaction.forms.table import STEMS, UNNAMED
from nat_observability.processors.redaction.recognisers import RECOGNISERS
from nat_observability.processors.redaction.tokens import AROUND, RUN_RECOGNISERS, TOKENS

BYTES_BEFORE_COMPILING = 1024 * 1024
"""How much is looked at without the engine before it is compiled, which takes a core some tenths of a second."""

_MOST_ENGINES = 16  # sets of rules in one process
_BETWEEN = rb"[-_. \t]{0,4}"  # separators between the words of a name
_LEAST_RARE = 5  # letters of a name that is no common word
_SPLIT = re.compile(r"[-_. \t]+")
_TOKEN_CHARACTERS = rb"[A-Za-z0-9_+/=.~-]"
_LEAST_REST = 8  # characters of every token behind its first letters
# Behind these escapes something can hide that shows only when they are removed.
_ESCAPES = (
    rb"%[0-9a-fA-F]{2}",
    rb"\x1b\[",
    rb"\\u[0-9a-fA-F]{4}",
    rb"\\x1b",
    rb"\\/",
)
_DISCORD = rb"[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27}"
# Behind a common word, what follows names in one of the forms; before it, what stands before them.
_BEHIND_NAMES = (
    rb"""(?:[ \t\r\n\f\v+"'`*_\\\],nrt])*(?:"""
    + b"|".join(dict.fromkeys(re.escape(end) for each in RECOGNISERS for end in each.name_ends))
    + b")"
)
_BEFORE_NAMES = (rb"--[\w.\-\x80-\xff]*", rb"<[\w.:-]*", rb"[\[(][\w.\-\x80-\xff]*")
_URL_WITH_USER = rb"://[^\s\"'<>`]*@"

Expression = tuple[bytes, bool]
"""A regular expression of hyperscan, and whether case matters not."""


class Rules(NamedTuple):
    """What an engine looks for: names of fields, tokens, and the literals of users' own patterns."""

    keys: tuple[str, ...]
    tokens: bool
    literals: tuple[bytes, ...]


class Engine:
    """
    Says whether a value can hold anything secret, in one pass over its bytes.

    It is compiled on a thread of its own once enough was looked at, and is ready some tenths of a second later. It may
    be used from several threads at once, and in forked children.

    Args:
        rules: What to look for.
    """

    __slots__ = ("_database", "_hyperscan", "_local", "_lock", "_looked_at", "_process", "_rules")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._database: Any = None
        self._hyperscan: Any = None
        self._local = threading.local()
        self._lock = threading.Lock()
        self._looked_at = 0
        self._process = 0  # which compiles, or has tried to

    @property
    def is_ready(self) -> bool:
        """Whether it is compiled."""
        return self._database is not None

    def may_hold(self, data: bytes) -> bool:
        """Say whether `data` can hold something secret. Before it is compiled, everything can."""
        database = self._database
        if database is None:
            self._count(len(data))
            return True
        try:
            scratch = self._local.scratch
        except AttributeError:
            scratch = self._local.scratch = self._hyperscan.Scratch(database)
        odd: list[int] = []
        try:
            database.scan(data, _found, 0, odd, scratch)  # by position: by name they take twice as long
            if odd and (folded := fold(data)) is not None:
                database.scan(folded.data, _found, 0, odd, scratch)
        except self._hyperscan.ScanTerminated:
            return True
        return False

    def compile(self) -> bool:
        """Compile it now; return whether that was possible."""
        try:
            import hyperscan
        except ImportError:
            return False
        expressions = expressions_of(self._rules)
        both = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_DOTALL
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(
            expressions=[expression for expression, _ in expressions],
            ids=list(range(len(expressions))),
            elements=len(expressions),
            flags=[
                both | hyperscan.HS_FLAG_CASELESS if ignores_case else both for _, ignores_case in expressions
            ],
        )
        self._hyperscan = hyperscan
        self._database = database
        return True

    def _count(self, size: int) -> None:
        self._looked_at += size
        if self._looked_at < BYTES_BEFORE_COMPILING or self._process == os.getpid():
            return
        with self._lock:
            # A forked child has not the thread of its parent, which may not have been done.
            if self._process == os.getpid():
                return
            self._process = os.getpid()
        # Without threads, or when the interpreter ends, the rest goes without it.
        with suppress(RuntimeError):
            threading.Thread(
                target=self._compile_quietly, name="nat-observability-redaction", daemon=True
            ).start()

    def _compile_quietly(self) -> None:
        try:
            self.compile()
        except Exception:  # noqa: BLE001  it is of no use then, and what it would save goes on being looked at
            self._database = None


_engines: dict[Rules, Engine] = {}
_engines_lock = threading.Lock()


def engine_of(keys: Iterable[str], *, tokens: bool, literals: Iterable[bytes] = ()) -> Engine | None:
    """
    Return the engine for a set of rules, the same for equal sets; None if everything would have to be looked at.

    Args:
        keys: Names of secret fields, as `KeyMatcher` takes them.
        tokens: Whether tokens are looked for.
        literals: What users' own patterns need, in lower case.
    """
    rules = Rules(tuple(keys), tokens, tuple(literals))
    if any(not _letters(key) for key in rules.keys):
        return None
    with _engines_lock:
        engine = _engines.get(rules)
        if engine is None:
            if len(_engines) >= _MOST_ENGINES:
                _engines.clear()
            engine = _engines[rules] = Engine(rules)
        return engine


def expressions_of(rules: Rules) -> Sequence[Expression]:
    """Return the expressions of which one is in every text in which something is redacted by these rules."""
    # The first is the one of characters that have to be folded.
    controls = b"".join(b"\\x%02x" % each[0] for each in CONTROLS)
    found = [(ODD_BYTES.pattern + b"|[" + controls + b"]", False)]
    found += [(name, True) for name in name_expressions(rules.keys)]
    found += [(escape, False) for escape in _ESCAPES]
    found += [(re.escape(literal), True) for literal in rules.literals]
    found += form_expressions()
    if rules.tokens:
        found += token_expressions()
    return tuple(dict.fromkeys(found))


def _letters(key: str) -> str:
    """Return the letters of a key, without its signs and separators."""
    return re.sub(r"[!~*?^\-_. \t]", "", key.lower())


def name_expressions(keys: Iterable[str]) -> Sequence[bytes]:
    """Return expressions of which one is in every text with a name that a key matches."""
    everywhere: dict[str, Sequence[str]] = {}
    common: dict[str, Sequence[str]] = {}
    for key in keys:
        if key.startswith("!"):
            continue
        literals = re.split(r"[*?]", key.removeprefix("~").lower())
        words = max(
            ([word for word in _SPLIT.split(literal.replace("^", "")) if word] for literal in literals),
            key=lambda each: len("".join(each)),
        )
        letters = "".join(words)
        ends_there = bool(literals[-1])
        # Such a word is in texts of all kinds: it counts where a name stands only.
        if ends_there and (key.startswith("~") or len(letters) < _LEAST_RARE):
            common[letters] = words
        else:
            everywhere[letters] = (*words, "") if ends_there else words
    endings = tuple(common)
    rare = {
        letters: words for letters, words in everywhere.items() if words[-1] or not letters.endswith(endings)
    }
    found: dict[bytes, None] = {}
    for letters, parts in rare.items():
        # Of two that are in each other the shorter is enough.
        if not any(other in letters for other in rare if other != letters):
            found[_BETWEEN.join(_of(part) for part in parts if part)] = None
    for letters, parts in common.items():
        if not any(letters.endswith(other) for other in common if other != letters):
            name = _BETWEEN.join(map(_of, parts))
            found[name + _BEHIND_NAMES] = None
            found.update(dict.fromkeys(before + name for before in _BEFORE_NAMES))
    return tuple(found)


def form_expressions() -> Sequence[Expression]:
    """Return expressions of which one is in every text with one of the forms of code, tools and documents."""
    stems = [(re.escape(stem) + (b"" if may_go_on else rb"(?:[^a-z]|$)"), True) for stem, may_go_on in STEMS]
    return [*stems, *((re.escape(literal), False) for _, literals, _ in UNNAMED for literal in literals)]


def token_expressions() -> Sequence[Expression]:
    """Return expressions of which one is in every text with a token, a private key or a password in a URL."""
    found: dict[Expression, None] = {}
    for token in TOKENS:
        for begin in token.begins.split():
            found[re.escape(begin).encode() + _TOKEN_CHARACTERS + b"{%d}" % _LEAST_REST, False] = None
    for each in AROUND:
        found[re.escape(each.letters).encode(), False] = None
    for recogniser in RUN_RECOGNISERS:
        found.update(dict.fromkeys((re.escape(letters), False) for letters in recogniser.letters))
        found.update(dict.fromkeys((re.escape(lead), True) for lead in recogniser.leads))
    found[_DISCORD, False] = None
    found[_URL_WITH_USER, False] = None
    found[b"----BEGIN", False] = None
    return tuple(found)


def _of(letters: str) -> bytes:
    """Return an expression for letters in either case: without UTF-8, hyperscan knows that of ASCII only."""
    if letters.isascii():
        return re.escape(letters).encode()
    upper = letters.upper()
    spellings = (letters, upper, letters.capitalize(), upper.replace("I", "\u0130"))
    return (
        b"(?:"
        + b"|".join(
            b"".join(b"\\x%02x" % code for code in each.encode()) for each in dict.fromkeys(spellings)
        )
        + b")"
    )


def _found(number: int, start: int, end: int, flags: int, odd: list[int]) -> bool:
    """Say whether to stop: not at characters that look otherwise, which are only noted."""
    if number:
        return True
    odd.append(end)
    return False
