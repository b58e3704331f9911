"""Integrations: one module or package per framework, which imports no other; and runs for any other worker."""

from nat_observability.integrations.shared.headers import read_headers, write_headers
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import RunIds, RunScope, run_scope

__all__ = ["ProcessScope", "RunIds", "RunScope", "read_headers", "run_scope", "write_headers"]
