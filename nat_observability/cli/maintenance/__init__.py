"""The commands that look after a configuration, a spool and a store."""

from nat_observability.cli.maintenance.check import check
from nat_observability.cli.maintenance.delete import delete
from nat_observability.cli.maintenance.migrate import migrate
from nat_observability.cli.maintenance.spool import spool

__all__ = ["MAINTENANCE", "check", "delete", "migrate", "spool"]

MAINTENANCE = (check, spool, migrate, delete)
