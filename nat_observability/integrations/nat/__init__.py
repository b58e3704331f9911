"""The reference toolkit: its runs as ours, and our managers under its workflows."""

from nat_observability.integrations.nat.adoption import adopt
from nat_observability.integrations.nat.managers import use_manager, use_manager_for_all

__all__ = ["adopt", "use_manager", "use_manager_for_all"]
