"""For tests of code that records steps: capture them, look at them as a tree, find what was left behind."""

from nat_observability.testing.leak_check import LeakCheck, tasks_left
from nat_observability.testing.recording import CapturingExporter, captured, recorded_run, until, wait_until
from nat_observability.testing.step_tree import NodeEvent, NodeLink, StepNode, StepTree

__all__ = [
    "CapturingExporter",
    "LeakCheck",
    "NodeEvent",
    "NodeLink",
    "StepNode",
    "StepTree",
    "captured",
    "recorded_run",
    "tasks_left",
    "until",
    "wait_until",
]
