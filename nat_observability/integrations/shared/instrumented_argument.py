"""check_instrumented(): what an integration instruments is an object of the framework, and nothing in its place."""

from __future__ import annotations


def check_instrumented(given: object, what: str, *needed: str, or_class: bool = False) -> None:
    """
    Check the first argument of an integration's `instrument()`.

    Args:
        given: The argument.
        what: What it should be, with its article.
        needed: Names of attributes that it has then.
        or_class: Whether a class will do.

    Raises:
        TypeError: It is something else, such as a class in place of its object, or the container.
    """
    missing = [name for name in needed if not hasattr(given, name)]
    if isinstance(given, type) and not or_class:
        raise TypeError(
            f"instrument() takes {what} and was given the class {given.__qualname__}, which is not an object yet: "
            "make one, and pass that."
        )
    if missing:
        found = "None" if given is None else f"an object of the type {type(given).__qualname__}"
        raise TypeError(
            f"instrument() takes {what} and was given {found}, which lacks {', '.join(missing)}: pass the one that "
            "your code makes."
        )
