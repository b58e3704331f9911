"""Models of pydantic and msgspec: what their fields are shown as, and whether pydantic's own serializers may run."""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import types
from collections.abc import Iterable, Mapping
from typing import Any

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture.budget import SCANNED, VALUE
from nat_observability.recording.capture.kinds import BYTES, LEAVES, NATIVE, SEQUENCES, iterator, length_of
from nat_observability.recording.capture.limits import limits
from nat_observability.recording.capture.reprs import own_methods

# Of what these make, pydantic's own serializers know the form.
_SERIALIZED = (
    "ipaddress",
    "pathlib",
    "pydantic.networks",
    "pydantic.types",
    "pydantic_core",
    "uuid",
)


def holds_generator(*values: Any) -> bool:
    """
    Whether there may be a generator in what pydantic looks into when it serializes: it would consume it.

    Also true if there is more than can be looked at.
    """
    return look_for_generator(values, limits.nodes)[0]


def look_for_generator(values: Iterable[Any], most: int) -> tuple[bool, int]:
    """Return whether there may be a generator in any of these values, and how many values have been looked at."""
    left, seen, visits = [*values], set(), 0
    while left:
        value = left.pop()
        kind = type(value)
        visits += 1
        if visits > most:
            return True, visits
        try:
            if kind in LEAVES:
                continue
        except BaseException as error:  # noqa: BLE001  foreign code: a metaclass without a hash, or whose own raises
            reraise_signal(error)
        if kind is types.GeneratorType:
            return True, visits
        if id(value) in seen:
            continue
        seen.add(id(value))
        if issubclass(kind, dict):
            left.extend(itertools.islice(dict.values(value), most))
        elif issubclass(kind, SEQUENCES):
            left.extend(itertools.islice(iterator(value), most))
        elif hasattr(kind, "model_dump") or dataclasses.is_dataclass(kind):
            left.extend(getattr(value, "__dict__", {}).values())
            left.append(getattr(value, "__pydantic_extra__", None))
    return False, visits


class Scan:
    """Whether pydantic's own serializers, which have no bounds, may run on a model."""

    __slots__ = ("_bytes", "has_bytes", "nodes")

    def __init__(self, nodes: int, size: int) -> None:
        self.nodes = nodes
        self._bytes = size
        self.has_bytes = False

    def simple(self, model: Any) -> bool:
        """Return whether all of it is of known kinds, each object is there once, and there is room for it."""
        try:
            return self._is_simple(model)
        except BaseException as error:  # noqa: BLE001  foreign code: a metaclass without a hash, or whose own raises
            reraise_signal(error)
            return False

    def _is_simple(self, model: Any) -> bool:
        left, seen = [model], set()
        while left:
            value = left.pop()
            kind: Any = type(value)
            self.nodes -= SCANNED
            if kind in LEAVES:
                if kind is str:
                    self._bytes -= len(value)
                elif kind is int and value.bit_length() > 1024:
                    return False
                if self.nodes < 0 or self._bytes < 0:
                    return False
                continue
            if issubclass(kind, BYTES):
                self.has_bytes = True
                self._bytes -= len(value)
                continue
            if kind in NATIVE or issubclass(kind, enum.Enum) or _is_serialized(kind):
                if issubclass(kind, enum.Enum):
                    left.append(value._value_)
                continue
            if id(value) in seen:
                return False
            seen.add(id(value))
            if issubclass(kind, tuple) and hasattr(kind, "_fields"):
                return False
            if issubclass(kind, SEQUENCES):
                if length_of(kind)(value) > self.nodes:
                    return False
                left.extend(iterator(value))
            elif issubclass(kind, dict):
                if dict.__len__(value) * 2 > self.nodes:
                    return False
                left.extend(dict.keys(value))
                left.extend(dict.values(value))
            elif isinstance(getattr(kind, "model_fields", None), dict):
                self.nodes -= VALUE
                info = model_info(kind)
                if info.hidden or info.renamed or info.computes:
                    return False
                if value is not model and "__repr__" in own_methods(kind):
                    return False
                left.extend(value.__dict__.values())
                left.append(getattr(value, "__pydantic_extra__", None))
            else:
                return False
        return self.nodes >= 0 and self._bytes >= 0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model class says of how its fields are to be shown: by their names, or by an alias that says more."""

    renamed: dict[str, str]
    excluded: frozenset[str]
    hidden: frozenset[str]
    serialized: frozenset[str]
    whole: bool  # by a serializer for all of it
    # Whether it has properties that a dump would run: they may query a database, or never return.
    computes: bool


@functools.lru_cache(maxsize=1024)
def model_info(kind: Any) -> ModelInfo:
    fields = kind.model_fields
    decorators = getattr(kind, "__pydantic_decorators__", None)
    serialized: set[str] = set()
    for each in getattr(decorators, "field_serializers", {}).values():
        serialized.update(fields if "*" in each.info.fields else each.info.fields)
    for name, info in fields.items():
        if any(type(each).__name__.endswith("Serializer") for each in info.metadata):
            serialized.add(name)
    return ModelInfo(
        telling_names({name: _alias(info) for name, info in fields.items()}),
        frozenset(name for name, info in fields.items() if info.exclude is True),
        frozenset(name for name, info in fields.items() if info.repr is False),
        frozenset(serialized),
        bool(getattr(decorators, "model_serializers", {})),
        bool(getattr(decorators, "computed_fields", {})),
    )


def telling_names(aliases: Mapping[str, object]) -> dict[str, str]:
    """
    Return the names by which to show fields of which an alias says something else than the name.

    `key = Field(alias="api_key")` is known as a secret by its alias alone.
    """
    renamed = {
        name: alias
        for name, alias in aliases.items()
        if isinstance(alias, str) and _letters(alias) != _letters(name) and alias not in aliases
    }
    return renamed if len(set(renamed.values())) == len(renamed) else {}


@functools.lru_cache(maxsize=1024)
def struct_names(kind: Any) -> dict[str, str]:
    """Return `telling_names` of the fields of a class of msgspec's, which has names to be written by."""
    return telling_names(dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)))


@functools.lru_cache(maxsize=1024)
def dataclass_names(kind: Any) -> dict[str, str]:
    """Return the same for a dataclass, whose fields have aliases if it is one of pydantic's."""
    fields = getattr(kind, "__pydantic_fields__", None)
    return (
        telling_names({name: _alias(info) for name, info in fields.items()})
        if isinstance(fields, dict)
        else {}
    )


@functools.lru_cache(maxsize=1024)
def attrs_names(kind: Any) -> dict[str, str]:
    """Return the same for a class of attrs', whose fields have the names of their arguments."""
    return telling_names({field.name: getattr(field, "alias", None) for field in kind.__attrs_attrs__})


def _letters(name: str) -> str:
    """Return a name as all ways of writing its words have it: `api_key`, `apiKey`, `API-KEY`."""
    return "".join(filter(str.isalnum, name)).casefold()


def _alias(info: Any) -> object:
    """Return the alias of a field of a model: the one that it is written by, or the first that it is read by."""
    alias = info.serialization_alias or info.alias or info.validation_alias
    choices = getattr(alias, "choices", None)  # an AliasChoices
    if isinstance(choices, list) and choices:
        alias = choices[0]
    path = getattr(alias, "path", None)  # an AliasPath
    if isinstance(path, list):
        alias = next((each for each in reversed(path) if isinstance(each, str)), None)
    return alias


@functools.lru_cache(maxsize=2048)
def _is_serialized(kind: Any) -> bool:
    return str(kind.__module__).startswith(_SERIALIZED)
