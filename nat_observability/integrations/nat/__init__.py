"""The reference toolkit: its runs as ours, and its workflows with our managers."""

from nat_observability.integrations.nat.adoption import adopt
from nat_observability.integrations.nat.delivered import close_deliveries, deliver, ledger_of
from nat_observability.integrations.nat.managers import use_manager, use_manager_for_all

__all__ = ["adopt", "close_deliveries", "deliver", "ledger_of", "use_manager", "use_manager_for_all"]
