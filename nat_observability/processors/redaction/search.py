"""Search: finds what is secret in a text, where a first look says that something could be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from nat_observability.processors.redaction.first_look.engine import Engine
from nat_observability.processors.redaction.first_look.sights import Sights
from nat_observability.processors.redaction.first_look.whole import Whole
from nat_observability.processors.redaction.first_look.words import Words
from nat_observability.processors.redaction.forms.finding import (
    begun,
    find_anywhere,
    find_named,
    find_unnamed,
    forms_near,
    is_form_near,
    telling_places,
)
from nat_observability.processors.redaction.forms.table import UNNAMED
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.memory import Memory
from nat_observability.processors.redaction.names.keys import KeyMatcher
from nat_observability.processors.redaction.names.needles import Needle
from nat_observability.processors.redaction.names.places import Place, Places
from nat_observability.processors.redaction.recognisers import (
    find_assigned,
    find_assigned_at,
    find_searched,
    find_searched_at,
    is_recogniser_near,
    searched_near,
    sign_behind,
)
from nat_observability.processors.redaction.text.encodings import is_escaped, layers
from nat_observability.processors.redaction.text.folding import fold, hides_letters, is_odd
from nat_observability.processors.redaction.tokens import find_tokens, find_tokens_at, may_have_token

Finder = Callable[[bytes], Iterator[Found]]

MOST_NAMES = 4096
"""How many names of secrets a text may have: what is behind the last is withheld, because a search takes long."""

TOO_MANY = "too_many_names"
"""The label of its mark."""

# What is around a name on which it depends whether it has a value.
_BEFORE_PLACE, _BEHIND_PLACE = 2304, 4096  # bytes
_MOST_FOUND = 16
_SHORT = 512  # bytes
_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_\n"
_LEAST_TOKEN = 16  # characters
_IN_STRING = 256  # bytes: longer strings of JSON are not names
# What is remembered of looks without the engine.
_LONGEST_KEPT = 64 * 1024  # bytes of a text
_MOST_KEPT = 64  # places in it
_MOST_CLEAN_NAMES = 4096
_LONGEST_NAME = 128  # characters of one that is remembered
_NOTHING = Sights([], [], [], [], False, False, False)


class Search:
    """
    Finds secrets by names, forms, tokens and personal data.

    Args:
        names: Says which names are secret.
        needles: What is in every such name; None if any name may be secret.
        joined: Letters of names whose words a key does not show.
        tokens: The names of the tokens that are looked for.
        literals: What the users' own patterns need, in lower case.
        finders: What finds personal data.
        is_enabled: If false, all of a text is searched.
        engine: Looks first, once it is ready.

    Attributes:
        clean_names: Texts that recur in which there is nothing.
        is_enabled: If false, all of a text is searched.
    """

    __slots__ = (
        "_engine", "_finders", "_harmless", "_is_default", "_joined", "_last", "_literals", "_names", "_places",
        "_seen", "_tokens", "_whole", "_words", "clean_names", "is_enabled",
    )  # fmt: skip

    def __init__(
        self,
        *,
        names: KeyMatcher,
        needles: Sequence[Needle] | None,
        joined: Iterable[bytes],
        tokens: Collection[str],
        literals: Iterable[bytes],
        finders: Iterable[Finder],
        is_enabled: bool = True,
        engine: Engine | None = None,
    ) -> None:
        self._names = names
        self.is_enabled = is_enabled and needles is not None
        needles = needles or ()
        self._places = Places(names, needles)
        self._joined = tuple(joined)
        self._tokens = frozenset(tokens)
        self._literals = tuple(literals)
        self._finders = tuple(finders)
        self._engine = engine if self.is_enabled else None
        self._is_default = not (self._finders or self._literals or self._joined)
        self._words = Words(
            needles,
            [
                (number, literal)
                for number, form in enumerate(UNNAMED)
                for literal in form.literals
                if needles
            ],
            self._places.needed_near,
        )
        self._harmless: Memory[int, int] = Memory()
        self._last: tuple[bytes, Sights | None] = (b"", None)
        self._whole: Whole | None = None
        self.clean_names: set[str] = set()
        self._seen: Memory[int, tuple[Sights | None]] = Memory()

    def passes(self, data: bytes) -> bool:
        """Say whether text or encoded JSON can hold anything to redact, in any encoding."""
        return not self.is_enabled or self._passes(data, self._look(data))

    @contextmanager
    def taken_apart(self, data: bytes) -> Iterator[None]:
        """Remember what was seen in JSON while its parts are asked for, which are then not looked at again."""
        before = self._whole
        sights = self._look(data) if self.is_enabled else None
        self._whole = None if sights is None else self._whole_of(data, sights)
        try:
            yield
        finally:
            self._whole = before

    def lines_that_pass(self, lines: Sequence[bytes]) -> Sequence[bool]:
        """Say of each of some groups of lines whether it can hold anything: one look takes less than many."""
        data = b"\n".join(lines)
        sights = self._look(data) if self.is_enabled else _NOTHING
        if sights is None:
            return [False] * len(lines)
        whole = self._whole_of(data, sights)
        passes: list[bool] = []
        begin = 0
        for line in lines:
            passes.append(not self.is_enabled or self._passes(line, self._sights_of(whole, begin, line)))
            begin += len(line) + 1
        return passes

    def _sights_of(self, whole: Whole, begin: int, part: bytes) -> Sights | None:
        sights = whole.sights_at(begin, part)
        # What these look for is not among the sights.
        return _NOTHING if sights is None and (self._finders or self._joined) else sights

    def _whole_of(self, data: bytes, sights: Sights) -> Whole:
        return Whole(data, sights, is_odd_alone=bool(self._finders or self._literals))

    def part_passes(self, data: bytes) -> bool:
        """Say whether a part of the JSON that is taken apart can hold anything to redact, in any encoding."""
        whole = self._whole
        if whole is None or (begin := whole.begin_of(data)) < 0:
            return self.passes(data)
        passes = self._passes(data, self._sights_of(whole, begin, data))
        if not passes:
            whole.pass_by(begin + len(data))
        return passes

    def _passes(self, data: bytes, sights: Sights | None) -> bool:
        if sights is None:
            return False
        if self._may_hold(data, sights):
            return True
        if sights.is_escaped and any(self._layer_passes(layer) for layer in layers(data)):
            return True
        if self._is_folded(data, sights):
            folded = fold(data)
            if folded is not None:
                return self._layer_passes(folded.data) or any(map(self._layer_passes, layers(folded.data)))
        return False

    def add_clean_name(self, name: str) -> None:
        """Remember that nothing is to be found in a text that recurs."""
        if len(name) <= _LONGEST_NAME:
            if len(self.clean_names) >= _MOST_CLEAN_NAMES:
                self.clean_names.clear()
            self.clean_names.add(name)

    def is_clean(self, data: bytes) -> bool:
        """Say whether nothing in a text needs a further look."""
        return self.is_enabled and self._look(data) is None

    def may_be_escaped(self, data: bytes) -> bool:
        """Say whether a text may have escapes that hide something."""
        if not self.is_enabled:
            return is_escaped(data)
        sights = self._look(data)
        return sights is not None and sights.is_escaped

    def may_be_folded(self, data: bytes) -> bool:
        """Say whether a text may hold something that shows only as it looks."""
        if not self.is_enabled:
            return True
        sights = self._look(data)
        return sights is not None and self._is_folded(data, sights)

    def _is_folded(self, data: bytes, sights: Sights) -> bool:
        """Say whether a text is also searched as it looks."""
        return sights.is_odd and (
            bool(sights.forms or self._finders or self._literals)
            or next(self._places.at(data, sights.names, sights.random, anywhere=True), None) is not None
            or hides_letters(data)
        )

    def find(self, data: bytes) -> Iterator[Found]:
        """Find what is secret in a text, as it is."""
        if not self.is_enabled or self._has_joined(data):
            yield from self._find_anywhere(data)
            return
        sights = self._look(data)
        if sights is not None:
            if sights.names:
                places = self._places_in(data, sights)
                if len(places) > MOST_NAMES:
                    yield places.pop().begin, len(data), TOO_MANY
                if places:
                    yield from self._find_named(data, places)
            if sights.forms:
                yield from find_unnamed(data, sights.forms, self._names)
            if self._tokens:
                yield from self._find_tokens(data, sights)
        for find in self._finders:
            yield from find(data)

    def _find_named(self, data: bytes, places: Sequence[Place]) -> Iterator[Found]:
        """Find what the names at these places name, but for those that had no value before in the same surroundings."""
        forms = forms_near(data, places)
        places = telling_places(data, places)
        searched = searched_near(data, places)
        # A form may be a table whose values are far away.
        others = {place for near in (forms, searched) for found_at in near.values() for place in found_at}
        harmless = self._harmless
        assigned: list[Place] = []
        unknown: dict[int, Place] = {}
        alike: list[Place] = []
        for place in places:
            if sign_behind(data, place) is None:
                continue
            if place not in others:
                start, end = max(0, place.begin - _BEFORE_PLACE), place.end + _BEHIND_PLACE
                key = hash((data[start:end], place.begin - start, place.end - start, end < len(data)))
                if harmless.get(key) is not None:
                    continue
                if key in unknown:
                    alike.append(place)
                    continue
                unknown[key] = place
            assigned.append(place)
        if not assigned and not others:
            return
        keys = self._names
        values = list(find_assigned_at(data, assigned, keys))
        if values and alike:
            values = list(find_assigned_at(data, sorted((*assigned, *alike)), keys))
        found = [
            *values,
            *find_searched_at(data, searched, keys),
            *find_named(data, forms, keys),
        ]
        yield from found
        if len(found) > _MOST_FOUND:
            return  # comparing all of them with all places would take long
        for key, place in unknown.items():
            if not any(
                start < place.end + _BEHIND_PLACE and end > place.begin - _BEFORE_PLACE
                for start, end, _ in found
            ):
                harmless.put(key, 1)

    def _find_anywhere(self, data: bytes) -> Iterator[Found]:
        yield from find_assigned(data, self._names)
        yield from find_searched(data, self._names)
        yield from find_anywhere(data, self._names)
        if self._tokens:
            for found in find_tokens(data, prefilter=self.is_enabled):
                if found[2] in self._tokens:
                    yield found
        for find in self._finders:
            yield from find(data)

    def _find_tokens(self, data: bytes, sights: Sights) -> Iterator[Found]:
        if sights.tokens is not None:
            tokens = find_tokens_at(data, sights.tokens) if sights.tokens else ()
        else:
            tokens = find_tokens(data) if may_have_token(data) else ()
        for found in tokens:
            if found[2] in self._tokens:
                yield found

    def _may_hold(self, data: bytes, sights: Sights) -> bool:
        """Say whether something may be secret in a text or JSON, as it is."""
        if sights.has_literal or sights.forms or self._has_joined(data):
            return True
        if self._tokens and next(self._find_tokens(data, sights), None) is not None:
            return True
        for number, place in enumerate(self._places.at(data, sights.names, sights.random, anywhere=True)):
            if number == MOST_NAMES or _is_near(data, place):
                return True
        return any(next(find(data), None) is not None for find in self._finders)

    def _layer_passes(self, data: bytes) -> bool:
        sights = self._look(data)
        if sights is None:
            return False
        if self._may_hold(data, sights):
            return True
        folded = fold(data) if self._is_folded(data, sights) else None
        if folded is None:
            return False
        sights = self._look(folded.data)
        return sights is not None and self._may_hold(folded.data, sights)

    def _places_in(self, data: bytes, sights: Sights) -> list[Place]:
        """Return the names in a text, but for those behind the first that is too many."""
        return list(islice(self._places.at(data, sights.names, sights.random), MOST_NAMES + 1))

    def _has_joined(self, data: bytes) -> bool:
        return bool(self._joined) and self._places.has_letters(data, self._joined)

    def _look(self, data: bytes) -> Sights | None:
        """Return what could be secret in `data`, None if nothing could be."""
        last = self._last
        if last[0] is data:
            return last[1]
        engine = self._engine
        if len(data) <= _SHORT and self._is_default and _is_plain(data):
            sights = None
        elif (whole := self._whole) is not None and (begin := whole.begin_of(data)) >= 0:
            sights = self._sights_of(whole, begin, data)
        elif engine is not None and engine.is_ready:
            sights = engine.look(data)
            if sights is not None and sights.forms:
                sights = _with_begun_forms(data, sights)
            if not data.isascii() and is_odd(data):
                sights = (sights or _NOTHING)._replace(is_odd=True)
            if sights is None and (self._finders or self._joined):
                sights = _NOTHING
        else:
            if engine is not None:
                engine.count(len(data))
            sights = self._look_slowly(data) if len(data) > _LONGEST_KEPT else self._remembered_look(data)
        self._last = (data, sights)
        return sights

    def _remembered_look(self, data: bytes) -> Sights | None:
        key = hash(data)
        seen = self._seen.get(key)
        if seen is not None:
            return seen[0]
        sights = self._look_slowly(data)
        if sights is None or len(sights.names) + len(sights.forms) <= _MOST_KEPT:
            self._seen.put(key, (sights,))
        return sights

    def _look_slowly(self, data: bytes) -> Sights | None:
        """Do the same without the engine."""
        names, forms = self._words.look(data)
        forms = begun(data, forms) if forms else forms
        is_hidden = is_escaped(data)
        odd = is_odd(data)
        has_literal = False
        if self._literals:
            lower = data.lower()
            has_literal = any(lower.find(literal) >= 0 for literal in self._literals)
        if not (
            names or forms or is_hidden or odd or has_literal or self._finders or self._joined
            or (self._tokens and may_have_token(data))
        ):  # fmt: skip
            return None
        return Sights(names, None, None, forms, has_literal, is_hidden, odd)


def _with_begun_forms(data: bytes, sights: Sights) -> Sights | None:
    """Return what could be secret without the forms of which only a literal is there; None if that is nothing."""
    forms = begun(data, sights.forms)
    return sights._replace(forms=forms) if forms or any((*sights[:3], *sights[4:])) else None


def _is_plain(data: bytes) -> bool:
    """Say whether a text is short words alone, as names of steps are: no token, and no sign or blank before a value."""
    return (
        not data.translate(None, _PLAIN)
        and max(map(len, data.split(b"\n"))) < _LEAST_TOKEN
        # In a file of logins, a line end is enough.
        and data.find(b"password") < 0
    )


def _is_near(data: bytes, place: Place) -> bool:
    """Say whether a value may belong to a name at a place, in text or in a string of JSON."""
    # An escape in a string of JSON: what it stands for may be a sign.
    if is_recogniser_near(data, place) or data.startswith(b"\\", place.end):
        return True
    if data.find(b'"', place.end, place.end + _IN_STRING) >= 0 and (
        data.rfind(b'"', max(0, place.begin - _IN_STRING), place.begin) >= 0
    ):
        return True
    return is_form_near(data, place)
