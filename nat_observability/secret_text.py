"""The text of a value that may be a secret."""

from __future__ import annotations

from typing import overload

from pydantic import SecretStr


@overload
def secret_text(value: SecretStr | str) -> str: ...
@overload
def secret_text(value: object) -> object: ...
def secret_text(value: object) -> object:
    """Return a secret's text in the clear, to send or parse and never to log; anything else as it is."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value
