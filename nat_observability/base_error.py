"""ObservabilityError: the base class of the package's exceptions, which can be pickled and copied; words they share."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, cast

from nat_observability.foreign_errors import describe, reraise_signal


class ObservabilityError(Exception):
    """
    Base class of every exception that the package raises.

    It can be pickled and copied, so it survives the way out of a worker process: with its text, attributes, notes and
    cause. Parts of an attribute or a cause that cannot be pickled arrive as text, an exception as `NotPicklableError`.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Not (class, args): args is the message, and the classes are not called with it.
        _, args, *state = cast("tuple[Any, ...]", super().__reduce__())
        attributes = dict(state[0]) if state and state[0] else {}
        return _blank, (type(self),), _Parts(args, attributes, self.__cause__, self.__suppress_context__)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, _Parts):
            super().__setstate__(state)  # type: ignore[arg-type]  # of a subclass with a __reduce__ of its own
            return
        _builtin_base(type(self)).__init__(self, *state.args)
        super().__setstate__(dict(state.attributes))
        self.__cause__ = state.cause
        self.__suppress_context__ = state.suppress_context


class NotPicklableError(ObservabilityError):
    """Stands for a foreign exception that could not be pickled, in an exception that was."""

    def __init__(self, error: BaseException) -> None:
        self.error_type = f"{type(error).__module__}.{type(error).__qualname__}"
        super().__init__(describe(error))


class _Parts:
    """The contents of an exception on the way into a copy: unchanged, or without what cannot be pickled."""

    def __init__(
        self,
        args: tuple[object, ...],
        attributes: dict[str, object],
        cause: BaseException | None,
        suppress_context: bool,
    ) -> None:
        self.args, self.attributes = args, attributes
        self.cause, self.suppress_context = cause, suppress_context

    def __reduce__(self) -> tuple[Any, ...]:
        parts = _picklable(self.args), _picklable(self.attributes), _picklable(self.cause)
        return _Parts, (*parts, self.suppress_context)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Parts:
        args, attributes = _deep_copy(self.args, memo), _deep_copy(self.attributes, memo)
        return _Parts(args, attributes, _deep_copy(self.cause, memo), self.suppress_context)


class _Pickled:
    """A foreign object in a pickle: its own pickle, which has been seen to load, or a text about the object."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        under_way = _under_way.get()
        # An exception may be an attribute of its own cause: inside itself it is only named.
        if id(self._value) not in under_way:
            import pickle  # not before it is needed: it takes a while

            token = _under_way.set(under_way | {id(self._value)})
            try:
                pickled = pickle.dumps(self._value)
                pickle.loads(pickled)
                return pickle.loads, (pickled,)
            except Exception:  # noqa: BLE001  foreign code: whatever an object does when it is pickled
                pass
            finally:
                _under_way.reset(token)
        if isinstance(self._value, BaseException):
            return _same, (NotPicklableError(self._value),)
        return str, (_text(self._value),)


_under_way: ContextVar[frozenset[int]] = ContextVar("_under_way", default=frozenset())


def _picklable(value: object) -> Any:
    # What can certainly be pickled stays as it is; in mappings and sequences each part is checked on its own.
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if type(value) is dict:
        return {_picklable(key): _picklable(each) for key, each in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(map(_picklable, value))
    return _Pickled(value)


def _deep_copy(value: object, memo: dict[int, Any]) -> Any:
    if type(value) is dict:
        return {_deep_copy(key, memo): _deep_copy(each, memo) for key, each in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(_deep_copy(each, memo) for each in value)
    import copy  # not before it is needed: it takes a while

    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001  foreign code: whatever an object does when it is copied
        return value


def _blank(kind: type[ObservabilityError]) -> object:
    return _builtin_base(kind).__new__(kind)


def _builtin_base(kind: Any) -> Any:
    # Not by the MRO: of several built-in classes, the one that determines the layout of an instance.
    while kind.__module__ != "builtins":
        kind = kind.__base__
    return kind


def _same(value: object) -> object:
    return value


def _text(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  foreign code: a repr that raises
        return f"a {type(value).__qualname__}"


def shown(value: object) -> str:
    """Return what was given in place of a name, for a message: in one short line, whatever it is."""
    if type(value) is str:
        return repr(value) if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]!r} and so on"
    try:
        text = repr(value)
    except BaseException as error:  # noqa: BLE001  foreign code: a repr that raises
        reraise_signal(error)
        return f"a {type(value).__qualname__}"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]} and so on"


_MAX_SHOWN = 80  # characters


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question after the known name that is most like this one; empty if none is like it."""
    import difflib  # slow to import, and needed only here

    by_lower = {each.lower(): each for each in known}
    match = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[match[0]]!r}?" if match else ""


def listed(names: Iterable[str]) -> str:
    """Return names for a message."""
    return ", ".join(names) or "none"


def cure_of(given: object) -> str:
    """Return what to do about an object that stands for the one that is wanted; nothing for any other."""
    module = type(given).__module__
    if isinstance(given, type):
        return ""
    if module == "dependency_injector.wiring":
        return "It was not injected: decorate the function with @inject, and call container.wire(modules=[...]) first."
    if module == "dependency_injector.providers":
        return "It is a provider: call it; and embed a container with providers.Container."
    if module == "dependency_injector.containers":
        return "Pass the container inside it, such as service.observability."
    return "It is a sink: write SpanExporter(sink)." if callable(getattr(given, "write", None)) else ""
