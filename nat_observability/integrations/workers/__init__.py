"""What the integrations of workers share: a process's exporters, and a run for each message or job."""

from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import Container, RunIds, RunScope, run_scope

__all__ = ["Container", "ProcessScope", "RunIds", "RunScope", "run_scope"]
