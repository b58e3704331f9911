"""The commands that look after a configuration, a spool and a store."""

from nat_observability.cli.keeping.check import check
from nat_observability.cli.keeping.delete import delete
from nat_observability.cli.keeping.migrate import migrate
from nat_observability.cli.keeping.spool import spool

__all__ = ["KEEPING", "check", "delete", "migrate", "spool"]

KEEPING = (check, spool, migrate, delete)
