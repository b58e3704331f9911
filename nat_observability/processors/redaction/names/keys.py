"""KeyMatcher: says which names of fields have secret values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

from nat_observability.errors import InvalidPatternError
from nat_observability.processors.redaction.memory import Memory
from nat_observability.processors.redaction.names.needles import UNSURE as UNSURE
from nat_observability.processors.redaction.names.needles import any_of, needles_of, stems_of
from nat_observability.processors.redaction.text.folding import folded_apart, folded_names

LIKELY = "likely_secret"
"""The label of names that have a secret value only if it looks random."""

STRONG = "strong_pass"
"""The label of the name `pass` where only a value that can be nothing but a password counts."""

# The dot is what is left of a Turkish capital letter that is made lower-case.
_SEPARATORS = str.maketrans("", "", "-_. \t\u0307")
_WORD_BEGIN = re.compile(r"[-_. \t]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BLANK = re.compile(r"\s")
_PATH = re.compile(r"[.:/\\\[\]#=@'\"()]+")
_NOT_IN_WORDS = re.compile(r"[^\w.-]+")
_LONGEST_REMEMBERED = 128  # characters
_LONGEST = 256  # characters of a name
_LONGEST_END = 6  # letters by which keys are found
# Bytes of a name of several words: of a longer one only the end counts, which is what the prefilter sees.
LONGEST_PHRASE = 96


def normalised(name: str) -> str:
    """Return `name` in the form that `X-API-Key`, `x_api_key` and `xApiKey` share."""
    return name.lower().translate(_SEPARATORS)


class _Name:
    """
    The name of a field, as keys are compared with it.

    Args:
        name: As it was written.

    Attributes:
        plain: In its normalised form.
    """

    __slots__ = ("_begins", "_name", "plain")

    def __init__(self, name: str, plain: str) -> None:
        self._name, self.plain = name, plain
        self._begins: frozenset[int] | None = None

    def begins_at(self, places: Iterable[int]) -> bool:
        """Say whether a word begins, or the name ends, at all these places of the normalised form."""
        begins = self._begins
        if begins is None:
            found, length = [0], 0
            for word in _WORD_BEGIN.split(self._name):
                length += len(normalised(word))
                found.append(length)
            begins = self._begins = frozenset(found)
        return begins.issuperset(places)


class _Glob:
    """
    One key with signs in it, and letters between two asterisks at most.

    Attributes:
        order: Its place among the keys.
        label: The label of its marks.
        letters: The letters, without signs.
        begins: Where in the letters a word must begin.
        expression: Matches the normalised name, if the key has further signs.
    """

    __slots__ = ("begins", "expression", "label", "letters", "order")

    def __init__(self, order: int, glob: str, label: str) -> None:
        self.order, self.label = order, label
        stripped = glob.strip("*")
        self.letters = stripped.replace("^", "")
        at, begins = 0, []
        for each in stripped:
            if each == "^":
                begins.append(at)
            else:
                at += 1
        self.begins = tuple(begins)
        self.expression = None
        if "*" in stripped or "?" in stripped or not (glob.startswith("*") or glob.endswith("*")):
            self.expression = re.compile(_expression(glob.replace("^", "")), re.DOTALL)

    def matches_at(self, at: int, name: _Name) -> bool:
        return not self.begins or name.begins_at([at + begin for begin in self.begins])

    def matches_inside(self, name: _Name) -> bool:
        at = name.plain.find(self.letters)
        while at >= 0:
            if self.matches_at(at, name):
                return True
            at = name.plain.find(self.letters, at + 1)
        return False


class _Keys:
    """Keys of one sign, which stood beside each other."""

    __slots__ = ("_anywhere", "_begin", "_by_end", "_exact", "_has_any", "_lengths", "_others", "letters")

    def __init__(self, keys: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        # By the last letters of what they end with, so that most names are compared with few of them.
        self._by_end: dict[str, list[_Glob]] = {}
        self._anywhere: list[_Glob] = []
        self._begin: list[_Glob] = []
        self._others: list[_Glob] = []
        self.letters: list[tuple[str, str]] = []
        for order, key in enumerate(keys):
            glob, is_likely = normalised(key.removeprefix("~")), key.startswith("~")
            label = LIKELY if is_likely else _label(key)
            if not is_likely:
                self.letters.append((_needle(glob).rstrip(":"), label))
            each = _Glob(order, glob, label)
            if not any(sign in glob for sign in "*?^"):
                self._exact[glob] = label
            elif each.expression is not None:
                self._others.append(each)
            elif glob.endswith("*"):
                (self._anywhere if glob.startswith("*") else self._begin).append(each)
            else:
                self._by_end.setdefault(each.letters[-_LONGEST_END:], []).append(each)
        self._lengths = sorted({len(end) for end in self._by_end})
        self._has_any = re.compile(
            # The letters of an asterisk alone are empty, and everywhere.
            "|".join(re.escape(each.letters) for each in self._anywhere) if self._anywhere else "(?!)"
        )

    def label(self, name: _Name) -> str | None:
        """Return the label of a name."""
        plain = name.plain
        found = self._exact.get(plain)
        if found is not None:
            return found
        globs = [
            each for each in self._others if each.expression is not None and each.expression.fullmatch(plain)
        ]
        for length in self._lengths:
            by_end = self._by_end.get(plain[-length:])
            if by_end is not None:
                globs += [
                    each
                    for each in by_end
                    if plain.endswith(each.letters) and each.matches_at(len(plain) - len(each.letters), name)
                ]
        if self._has_any.search(plain) is not None:
            globs += [each for each in self._anywhere if each.letters in plain and each.matches_inside(name)]
        for each in self._begin:
            if plain.startswith(each.letters) and each.matches_at(0, name):
                globs.append(each)
        return min(globs, key=_order).label if globs else None


@lru_cache(maxsize=64)
def _compiled(keys: tuple[str, ...]) -> _Keys:
    return _Keys(keys)


def with_letters_apart(keys: Iterable[str]) -> list[str]:
    """Return keys, and those with accents also as they are if the accents are characters of their own."""
    return [
        each
        for key in keys
        for each in ((key,) if key.isascii() else dict.fromkeys((key, folded_apart(key))))
    ]


class KeyMatcher:
    """
    Says whether the value of a field is secret, by the name of the field.

    Args:
        keys: Names; `*` stands for any characters, `?` for one, `^` for the beginning of a word. A `~` before a name
            means that only a value that looks random is secret, a `!` that the name is not secret although another key
            before it matches. Case and separators do not matter.
        unsure: The label of the name that means either a password or that something has passed.

    Raises:
        InvalidPatternError: A key is not a text, or is empty.
    """

    __slots__ = ("_groups", "_keys", "_memo", "_other", "_stems", "_unsure", "labels")

    def __init__(self, keys: Iterable[object], *, unsure: str = UNSURE) -> None:
        known: list[str] = []
        for key in keys:
            if not isinstance(key, str) or not normalised(
                key.removeprefix("!").removeprefix("~").replace("^", "")
            ):
                raise InvalidPatternError(
                    key, "a key must be a non-empty text", "Use the name of a field, such as 'x-api-key'."
                )
            known.append(key)
        self._keys = tuple(known)
        self._other: KeyMatcher | None = None
        # The last group that knows a name decides.
        self._groups = [
            (is_kept, _compiled(tuple(key.removeprefix("!") for key in group)))
            for is_kept, group in groupby(known, lambda key: key.startswith("!"))
        ][::-1]
        secret = [group for is_kept, group in self._groups if not is_kept]
        self._memo: Memory[str, tuple[bool, str | None]] = Memory()
        needles = needles_of(known)
        # None of most names' letters are in a secret one.
        self._stems = (
            None
            if needles is None
            else any_of(stem.encode() for stem in stems_of(needles) if stem.isascii())[0]
        )
        self._unsure = unsure
        self.labels = frozenset((LIKELY, *(label for group in secret for _, label in group.letters)))

    def label(self, name: str) -> str | None:
        """Return the label for the value of such a field, None if the value is not secret."""
        return self.of(name)[1]

    def of(self, name: str) -> tuple[bool, str | None]:
        """Return whether an exception says that a field of that name is not secret, and the label for its value."""
        found = self._memo.get(name)
        if found is None:
            readings = [self._find(reading) for reading in folded_names(name)]
            found = next((each for each in readings if each[1] is not None), readings[0])
            if len(name) <= _LONGEST_REMEMBERED:
                self._memo.put(name, found)
        return found

    def with_unsure(self, label: str) -> KeyMatcher:
        """Return the same keys, with another label for the name that means a password or that something has passed."""
        if self._other is None:
            self._other = KeyMatcher(self._keys, unsure=label)
        return self._other

    def is_kept(self, name: str) -> bool:
        """Say whether an exception says that a field of that name is not secret."""
        return self.of(name)[0]

    def _find(self, name: str) -> tuple[bool, str | None]:
        if len(name) > LONGEST_PHRASE // 4 and _BLANK.search(name) is not None:
            name = name.encode(errors="replace")[-LONGEST_PHRASE:].decode(errors="ignore")
        is_kept, label = self._of(name)
        if label is None and not is_kept and (parts := _PATH.split(name)) and len(parts) > 1:
            # The last part of a path: config.db.auth, user[auth], ns:auth, #auth.
            _, label = self._of(next((part for part in reversed(parts) if part), ""))
        elif label is not None and len(words := _NOT_IN_WORDS.split(name)) > 1:
            # <password_of_the_service>x</: what is about a secret stays about it, whatever is beside it.
            found = [self._of(word) for word in words]
            rest = " ".join(word for word, (is_kept, _) in zip(words, found, strict=True) if not is_kept)
            if any(is_kept for is_kept, _ in found) and self._of(rest)[1] is None:
                return True, None
        return is_kept, label

    def _of(self, name: str) -> tuple[bool, str | None]:
        plain = normalised(name)
        if len(plain) > _LONGEST:
            # Hardly a name: it counts as secret if it contains the letters of a key, which takes little time.
            letters = (each for is_kept, group in self._groups if not is_kept for each in group.letters)
            return False, next((label for needle, label in letters if needle in plain), None)
        if self._stems is not None and plain.isascii() and self._stems.search(plain.encode()) is None:
            return False, None
        named = _Name(name, plain)
        for is_kept, group in self._groups:
            label = group.label(named)
            if label is not None:
                return is_kept, None if is_kept else self._unsure if label == UNSURE else label
        return False, None


def _order(glob: _Glob) -> int:
    return glob.order


def _expression(glob: str) -> str:
    # Lazy repetitions match in linear time for one asterisk at either end, and otherwise in polynomial time, which is
    # fast enough for names.
    return "".join(".*?" if each == "*" else "." if each == "?" else re.escape(each) for each in glob)


def _needle(glob: str) -> str:
    """Return letters that are in every name that `glob` matches, with a colon if the name ends with them."""
    literals = re.split(r"[*?]", glob.replace("^", ""))
    longest = max(literals, key=len)
    return f"{longest}:" if longest and literals[-1] == longest else longest


def _label(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")[:40] or "key"
