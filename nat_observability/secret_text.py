"""The text of a value that may be a secret."""

from __future__ import annotations

from typing import TypeVar

from pydantic import SecretStr

_T = TypeVar("_T")


def secret_text(value: SecretStr | _T) -> str | _T:
    """Return a secret's text in the clear, to be sent or parsed and never to be logged; anything else as it is."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value
