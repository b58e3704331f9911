"""Engine: finds all that could be secret in one pass over the bytes of a value, where hyperscan has wheels."""

from __future__ import annotations

import mmap
import os
import re
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any, NamedTuple

from nat_observability.processors.redaction.first_look.sights import Sights
from nat_observability.processors.redaction.forms.table import UNNAMED
from nat_observability.processors.redaction.names.needles import Needle, needles_of, spellings
from nat_observability.processors.redaction.tables.token import Token
from nat_observability.processors.redaction.text.encodings import ESCAPES
from nat_observability.processors.redaction.text.folding import CONTROLS, ELISIONS
from nat_observability.processors.redaction.tokens import AROUND, RUN_RECOGNISERS, TEXT_RECOGNISERS, TOKENS
from nat_observability.system.fork_hooks import at_fork

BYTES_BEFORE_COMPILING = 1024 * 1024
"""How much is looked at without the engine before it is compiled, which takes a core a second or some."""

_MOST_ENGINES = 16  # sets of rules in one process
# What is looked at begins and ends with a line end of ours: anchors would take three times as long to compile, and so
# would limits that change little of what is found.
_AROUND = b"\n"
# Between the words of a name: also blanks and dashes beyond ASCII.
_BETWEEN = rb"[-_. \t+\x80-\xaf\xc2\xe2\xe3]*"
_END_OF_NAME = rb"[-_.]*(?:[^A-Za-z0-9_\x80-\xff]|[\xc2-\xef][\x80-\xbf])"
_MOST_COUNTED = 8  # characters of one part of a token: more take more time to compile, and more memory
# No letter or digit, but for those that are the end of an escape.
_BEFORE_TOKEN = rb"(?:[^A-Zac-eg-mo-qsu-z0-9]|\\x..)"
_DISCORD = rb"[MNO][\w-]{23}[\w-]{0,4}\.[\w-]{6}\.[\w-]{16}"
# Before the name that means either a password or that something has passed: as a part of a word it is none.
_BEFORE_UNSURE = rb"(?:[^A-Za-z0-9]|\\[nrtbf])"
_RANDOM = (
    rb"[0-9][A-Za-z]{1,64}[0-9]{1,64}[A-Za-z]",
    rb"[A-Za-z][0-9]{1,64}[A-Za-z]{1,64}[0-9]",
)


class Kind(IntEnum):
    """What an expression of the engine stands for."""

    NAME = 0
    RANDOM = 1
    TOKEN = 2
    LITERAL = 3
    ESCAPE = 4
    CONTROL = 5
    WHOLE_NAME = 6
    """It ends with the character behind the name."""
    LIKELY_NAME = 7
    """Its value must look random: of no use in a text with no such value. It ends as a whole name does."""
    FORM = 8
    """And the next ones: each form without a name."""


# Where they stand does not matter: each is reported once.
_REPORTED_ONCE = frozenset((Kind.LITERAL, Kind.ESCAPE, Kind.CONTROL))


class Rules(NamedTuple):
    """What an engine looks for: names of fields, tokens, and the literals of users' own patterns."""

    keys: tuple[str, ...]
    tokens: bool
    literals: tuple[bytes, ...]


class Expression(NamedTuple):
    """A regular expression of hyperscan, whether case matters not, and what it stands for."""

    pattern: bytes
    ignores_case: bool
    kind: int


class Engine:
    """
    Finds in one pass where something secret could be.

    It is compiled on a thread of its own once enough was looked at, and is ready a second or some later. It may
    be used from several threads at once, and in forked children.

    Args:
        rules: What to look for.
    """

    __slots__ = ("_built", "_database", "_kinds", "_local", "_lock", "_looked_at", "_process", "_rules")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._database: Any = None  # of hyperscan's, once it is ready
        self._built: mmap.mmap | None = None  # what is compiled, until it is loaded
        self._kinds: tuple[int, ...] = ()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._looked_at = 0
        self._process = 0  # which compiles, or has tried to

    @property
    def is_ready(self) -> bool:
        """Whether it is compiled."""
        return self._database is not None or (self._built is not None and self._load())

    def look(self, data: bytes) -> Sights | None:
        """Return what could be secret in `data`, None if nothing could be. It must be ready."""
        found: list[tuple[int, int]] = []
        # By position: by name the arguments take twice as long.
        self._database.scan(_AROUND + data + _AROUND, _add, 0, found, self._scratch())
        if not found:
            return None
        kinds = self._kinds
        names: list[int] = []
        likely: list[int] = []
        random: list[int] = []
        tokens: list[int] = []
        forms: list[tuple[int, int]] = []
        has_literal = is_escaped = is_odd = False
        for number, end_around in found:
            end = end_around - len(_AROUND)
            kind = kinds[number]
            if kind == Kind.NAME:
                names.append(end)
            elif kind == Kind.RANDOM:
                random.append(end)
            elif kind == Kind.TOKEN:
                tokens.append(end)
            elif kind == Kind.WHOLE_NAME:
                names.append(end - 1)
            elif kind == Kind.LIKELY_NAME:
                likely.append(end - 1)
            elif kind >= Kind.FORM:
                forms.append((kind - Kind.FORM, end))
            elif kind == Kind.LITERAL:
                has_literal = True
            elif kind == Kind.ESCAPE:
                is_escaped = True
            else:
                is_odd = True
        if random:
            names += likely
        if not (names or random or tokens or forms or has_literal or is_escaped or is_odd):
            return None
        names.sort()
        return Sights(names, random, tokens, forms, has_literal, is_escaped, is_odd)

    def compile(self) -> bool:
        """Compile it now; return whether that was possible."""
        return self._build() and self._load()

    def _build(self) -> bool:
        try:
            import hyperscan
        except ImportError:
            return False
        expressions = expressions_of(self._rules, needles_of(self._rules.keys) or ())
        self._kinds = tuple(each.kind for each in expressions)
        self._built = _compiled(hyperscan, expressions)
        return True

    def _load(self) -> bool:
        import hyperscan

        with self._lock:
            built, self._built = self._built, None
        if built is not None:
            with suppress(Exception):  # then the rest goes without it
                self._database = hyperscan.loadb(built[:], hyperscan.HS_MODE_BLOCK)
            built.close()
        return self._database is not None

    def renew(self) -> None:
        """In a forked child: replace the lock, which a thread of the parent may have held."""
        self._lock = threading.Lock()

    def _scratch(self) -> Any:
        try:
            return self._local.scratch
        except AttributeError:
            import hyperscan

            scratch = self._local.scratch = hyperscan.Scratch(self._database)
            return scratch

    def count(self, size: int) -> None:
        """Count what is looked at without it, and compile it once that is enough."""
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
        # If that fails, what it would save goes on being looked at.
        with suppress(Exception):
            self._build()


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
    if needles_of(rules.keys) is None:
        return None
    with _engines_lock:
        engine = _engines.get(rules)
        if engine is None:
            if len(_engines) >= _MOST_ENGINES:
                _engines.clear()
            engine = _engines[rules] = Engine(rules)
        return engine


def _renew_in_child() -> None:
    global _engines_lock
    _engines_lock = threading.Lock()
    for engine in _engines.values():
        engine.renew()


at_fork(after_in_child=_renew_in_child)


def expressions_of(rules: Rules, needles: Sequence[Needle]) -> Sequence[Expression]:
    """Return the expressions of which one is in every text in which something is redacted by these rules."""
    found = [*name_expressions(needle for needle in needles if not needle.is_likely)]
    if likely := name_expressions(needle for needle in needles if needle.is_likely):
        found += [each._replace(kind=Kind.LIKELY_NAME) for each in likely]
        found += [Expression(pattern, ignores_case=False, kind=Kind.RANDOM) for pattern in _RANDOM]
    found += [Expression(escape, ignores_case=False, kind=Kind.ESCAPE) for escape in ESCAPES]
    controls = b"".join(b"\\x%02x" % control[0] for control in CONTROLS)
    found.append(Expression(b"[" + controls + b"]", ignores_case=False, kind=Kind.CONTROL))
    found += [Expression(each, ignores_case=False, kind=Kind.CONTROL) for each in ELISIONS]
    found += [
        Expression(re.escape(literal), ignores_case=True, kind=Kind.LITERAL) for literal in rules.literals
    ]
    if needles:
        found += [
            Expression(_any_of(map(re.escape, form.literals)), ignores_case=False, kind=Kind.FORM + number)
            for number, form in enumerate(UNNAMED)
        ]
    if rules.tokens:
        found += token_expressions()
    return tuple(dict.fromkeys(found))


def name_expressions(needles: Iterable[Needle]) -> Sequence[Expression]:
    """
    Return expressions of which one is in every name with one of the needles, and where a value may follow.

    All needles with the same last word are in one expression, which takes half the time of one each.
    """
    found: list[Expression] = []
    whole: dict[str, dict[bytes, None]] = {}
    open_: dict[str, dict[bytes, None]] = {}
    for needle in needles:
        *first, last = needle.parts
        before = b"".join(_of(part) + _BETWEEN for part in first)
        if needle.is_unsure:
            pattern = _BEFORE_UNSURE + before + _of(last) + _END_OF_NAME
            found.append(Expression(pattern, ignores_case=True, kind=Kind.WHOLE_NAME))
        else:
            (whole if needle.is_end else open_).setdefault(last, {})[before] = None
    for by_last, behind, kind in ((whole, _END_OF_NAME, Kind.WHOLE_NAME), (open_, b"", Kind.NAME)):
        for last, befores in by_last.items():
            before = b"" if b"" in befores else _any_of(befores)
            found.append(Expression(before + _of(last) + behind, ignores_case=True, kind=kind))
    return found


def _any_of(expressions: Iterable[bytes]) -> bytes:
    return b"(?:" + b"|".join(expressions) + b")"


def token_expressions() -> Sequence[Expression]:
    """Return expressions of which one is in every text with a token, a private key or a password in a URL."""
    patterns: dict[tuple[bytes, bool], None] = {}
    for token in TOKENS:
        rest = _rest_of(token)
        for begin in token.begins.split():
            patterns[_BEFORE_TOKEN + re.escape(begin).encode() + rest, False] = None
    for each in AROUND:
        patterns[re.escape(each.letters).encode(), False] = None
    for in_text in TEXT_RECOGNISERS:
        patterns.update(dict.fromkeys((pattern, False) for pattern in in_text.expressions))
    for recogniser in RUN_RECOGNISERS:
        patterns.update(dict.fromkeys((re.escape(letters), False) for letters in recogniser.letters))
        patterns.update(dict.fromkeys((lead, True) for lead in recogniser.expressions))
    patterns[_DISCORD, False] = None
    return [Expression(pattern, ignores_case, Kind.TOKEN) for pattern, ignores_case in patterns]


def _rest_of(token: Token) -> bytes:
    """Return the beginning of what follows the first letters of a token."""
    pieces: list[str] = []
    for characters, least, is_exact in token.parts:
        if least is None:
            pieces.append(characters)
            continue
        pieces.append(f"{characters}{{{min(least, _MOST_COUNTED)}}}")
        # Behind it, the next part begins anywhere.
        if least > _MOST_COUNTED or not is_exact:
            break
    return "".join(pieces).encode()


def _compiled(hyperscan: Any, expressions: Sequence[Expression]) -> mmap.mmap:
    """
    Return an encoded database, in memory of its own.

    Compiling takes some 35 MB, which the allocator of the thread gives back only if nothing that is kept is among it.
    """
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[each.pattern for each in expressions],
        ids=list(range(len(expressions))),
        elements=len(expressions),
        flags=[
            hyperscan.HS_FLAG_DOTALL
            | (hyperscan.HS_FLAG_CASELESS if each.ignores_case else 0)
            | (hyperscan.HS_FLAG_SINGLEMATCH if each.kind in _REPORTED_ONCE else 0)
            for each in expressions
        ],
    )
    encoded = hyperscan.dumpb(database)
    shared = mmap.mmap(-1, len(encoded))
    shared[:] = encoded
    return shared


def _of(letters: str) -> bytes:
    """Return an expression for letters in either case: without UTF-8, hyperscan knows that of ASCII only."""
    if letters.isascii():
        return re.escape(letters).encode()
    return _any_of(b"".join(b"\\x%02x" % code for code in each.encode()) for each in spellings(letters))


def _add(number: int, start: int, end: int, flags: int, found: list[tuple[int, int]]) -> None:
    found.append((number, end))
