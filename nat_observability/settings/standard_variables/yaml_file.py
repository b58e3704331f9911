"""load(): a configuration file of OpenTelemetry as Python values, with environment variables substituted in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Lookup = Callable[[str], str | None]
"""Returns the value of an environment variable; None if it is not set."""

_REFERENCE = re.compile(r"\$\$|\$\{([^}\n]*)(\}?)")
_NAME = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
# YAML 1.2's core schema, which the specification asks for: "no" and "1:30" are text, and 010 is ten. More digits than
# these are text too.
_SCALARS = {
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "int": (re.compile(r"^(?:[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400})$"), "-+0123456789"),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]{1,400}|[0-9]{1,400}(?:\.[0-9]{0,400})?)(?:[eE][-+]?[0-9]{1,9})?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        "-+.0123456789",
    ),
}
_BASES = {"0o": 8, "0x": 16}
_OLD_TAGS = (*_SCALARS, "timestamp")


class _Integer(int):
    """A whole number that knows how it is written, for where text is wanted: a key of digits may begin with 0."""

    written: str


class _Float(float):
    """Likewise, a number: a version may end with 0."""

    written: str


def written(value: bool | float) -> str:
    """Return a switch or a number as it is written in the file."""
    text: str | None = getattr(value, "written", None)
    return json.dumps(value) if text is None else text


def _integer(text: str) -> _Integer:
    digits, base = (text[2:], _BASES[text[:2]]) if text[:2] in _BASES else (text, 10)
    number = _Integer(digits, base)
    number.written = text
    return number


def _float(text: str) -> _Float:
    number = _Float(text.replace(".i", "i").replace(".I", "I").replace(".n", "n").replace(".N", "N"))
    number.written = text
    return number


def load(path: Path, lookup: Lookup) -> object:
    """
    Read the file.

    Raises:
        ValueError: It cannot be read, or is not YAML, or a reference in it is malformed; the message follows the
            file's name, and shows nothing of a value.
    """
    try:
        import yaml
    except ImportError:
        raise ValueError("needs PyYAML: pip install 'nat-observability[config]'") from None
    try:
        text = path.expanduser().read_text("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such home directory"
        raise ValueError(f"cannot be read: {reason}") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in _OLD_TAGS]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    for kind, (pattern, beginnings) in _SCALARS.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", pattern, list(beginnings))
    Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: _integer(node.value))
    Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: _float(node.value))
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _substitute_in(loader, node, lookup, yaml.ScalarNode)
        return _constructed(loader, node, yaml.YAMLError)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ValueError(f"is not YAML{where}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    finally:
        loader.dispose()


def _constructed(loader: Any, node: Any, yaml_error: type[Exception]) -> object:
    try:
        return loader.construct_document(node)
    except (yaml_error, RecursionError):
        raise
    except Exception:  # noqa: BLE001  whatever a tag's constructor raises shows the value
        raise ValueError("holds a value that is not of the type that its tag names") from None


def _substitute_in(loader: Any, node: Any, lookup: Lookup, scalar: type) -> None:
    """Substitute in the values of a tree of nodes, never in keys, so that no variable can add to the structure."""
    stack, seen = [node], set()
    while stack:
        each = stack.pop()
        if id(each) in seen:
            continue  # an alias
        seen.add(id(each))
        if isinstance(each, scalar):
            _substitute_in_scalar(loader, each, lookup, scalar)
        elif each.tag.endswith(":map"):
            _check_keys(each)
            stack += [value for _, value in each.value]
        else:
            stack += each.value


def _check_keys(node: Any) -> None:
    """Refuse a key that is there twice, which YAML does not allow: what the first one says would be lost."""
    found = set()
    for key, _ in node.value:
        if isinstance(key.value, str):
            if key.value in found:
                raise ValueError(f"line {key.start_mark.line + 1} holds a key that is there already")
            found.add(key.value)


def _substitute_in_scalar(loader: Any, node: Any, lookup: Lookup, scalar: type) -> None:
    if "$" not in node.value:
        return
    try:
        node.value = substituted(node.value, lookup)
    except ValueError as error:
        raise ValueError(f"line {node.start_mark.line + 1} {error}") from None
    if node.style is None:
        # A plain value is typed by what it has become; a quoted one stays text.
        node.tag = loader.resolve(scalar, node.value, (True, False))


def substituted(text: str, lookup: Lookup) -> str:
    """
    Return a text with `${NAME}`, `${env:NAME}` and `${NAME:-default}` replaced, and `$$` as one dollar sign.

    A variable that is not set, or empty, gives the default, or nothing. What is substituted is not searched again.

    Raises:
        ValueError: A reference is malformed.
    """

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        parts = _NAME.fullmatch(match[1])
        if parts is None or not match[2]:
            raise ValueError(
                "holds a reference that is not ${NAME} or ${NAME:-default}; write $$ for a dollar sign"
            )
        return lookup(parts[1]) or parts[2] or ""

    return _REFERENCE.sub(replaced, text)
