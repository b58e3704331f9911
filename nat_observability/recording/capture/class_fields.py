"""Fields of dataclasses, attrs' classes and msgspec's structs, under the names by which they are shown."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from typing import Any

from nat_observability.recording.capture.models import attrs_names, dataclass_names, struct_names

HIDDEN = "<hidden>"
"""What is shown of a field that its own class leaves out of its repr."""


def fields_of_struct(value: Any) -> Iterator[tuple[object, object]]:
    """Yield name and value of each field of a struct."""
    kind: Any = type(value)
    renamed = struct_names(kind)
    for name in kind.__struct_fields__:
        yield renamed.get(name, name), getattr(value, name)


def fields_of_dataclass(value: Any) -> Iterator[tuple[object, object]]:
    """Yield the same of a dataclass, without running code of its own."""
    kind: Any = type(value)
    fields = getattr(value, "__dict__", {})
    renamed = dataclass_names(kind)
    for field in dataclasses.fields(value):
        name = renamed.get(field.name, field.name)
        if not field.repr:
            yield name, HIDDEN
        elif field.name in fields:
            yield name, fields[field.name]
        elif isinstance(held := getattr(kind, field.name, None), types.MemberDescriptorType):
            yield name, getattr(value, field.name, None)
        elif held is field.default:
            yield name, held  # it is no argument
        # Else it has been deleted, or its attribute fetches it from somewhere.


def fields_of_attrs(value: Any) -> Iterator[tuple[object, object]]:
    """Yield the same of a class of attrs."""
    kind: Any = type(value)
    renamed = attrs_names(kind)
    for field in kind.__attrs_attrs__:
        name = renamed.get(field.name, field.name)
        if field.repr is False:
            yield name, HIDDEN
        else:
            item = getattr(value, field.name, None)
            yield name, field.repr(item) if callable(field.repr) else item
