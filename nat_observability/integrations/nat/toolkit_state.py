"""ToolkitState: what this integration uses of the toolkit's context state, and of its context variables."""

from __future__ import annotations

from typing import Any, Protocol


class Variable(Protocol):
    """One of the context variables of the toolkit's context state."""

    def get(self) -> Any: ...

    def set(self, value: Any) -> object: ...


class ToolkitState(Protocol):
    """The toolkit's `ContextState`: one object for the process, in whose context variables each run has its own."""

    @property
    def event_stream(self) -> Variable: ...
    @property
    def active_span_id_stack(self) -> Variable: ...
    @property
    def active_function(self) -> Variable: ...
    @property
    def workflow_run_id(self) -> Variable: ...
    @property
    def workflow_trace_id(self) -> Variable: ...
    @property
    def workflow_parent_id(self) -> Variable: ...
    @property
    def conversation_id(self) -> Variable: ...
    @property
    def user_id(self) -> Variable: ...
