"""CustomExporterSettings: an exporter of a type that a service or an entry point adds, with its secrets sealed."""

# Annotations are evaluated here, not postponed, as in base.py.
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, PlainSerializer, Secret, SecretStr, model_validator

from nat_observability.settings.exporters.base import ExporterSettings


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return str(value) if isinstance(value, SecretStr | Secret) else value


class CustomExporterSettings(ExporterSettings):
    """
    An exporter of a type that the embedding service or an entry point adds.

    The container checks whether the type exists. Its own settings are kept as they came, text from variables as text.
    What looks like a secret, by its name or as part of a URL or a connection string, is wrapped, so that no repr, dump
    or log shows it.
    """

    model_config = ConfigDict(extra="allow")
    # Without it, some versions of pydantic cannot write a secret of an undeclared type as JSON.
    __pydantic_extra__: dict[str, Annotated[Any, PlainSerializer(_masked, when_used="json")]]

    def options(self) -> dict[str, Any]:
        """Return the entry's own settings with secrets in the clear, for the type's model to validate."""
        return {name: _opened(value) for name, value in (self.model_extra or {}).items()}

    @model_validator(mode="before")
    @classmethod
    def _seal_secrets(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        return {k: v if k in cls.model_fields else _sealed(str(k), v, secret=False) for k, v in data.items()}


# Deliberately wide: sealing a name without need costs nothing, missing one is a leak.
_WORDS = "key|token|secret|pass|pwd|authorization|header|credential|cookie|dsn"
_SECRET_NAME = re.compile(_WORDS, re.IGNORECASE)
_SECRET_VALUE = re.compile(rf"://\S*@|({_WORDS})[^=\s]*=", re.IGNORECASE)


def _sealed(name: str, value: Any, *, secret: bool) -> Any:
    secret = secret or _SECRET_NAME.search(name) is not None
    if isinstance(value, Mapping):
        return {key: _sealed(str(key), inner, secret=secret) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_sealed(name, inner, secret=secret) for inner in value]
    if isinstance(value, str):
        return SecretStr(value) if secret or _SECRET_VALUE.search(value) else value
    return Secret(value) if secret and not isinstance(value, bool | None | SecretStr | Secret) else value


def _opened(value: Any) -> Any:
    if isinstance(value, SecretStr | Secret):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: _opened(inner) for key, inner in value.items()}
    return [_opened(inner) for inner in value] if isinstance(value, list) else value
