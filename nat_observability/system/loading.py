"""loading: the lock that is held while modules are imported late, so that no fork catches an import in the middle."""

from __future__ import annotations

import threading

from nat_observability.system.fork_hooks import at_fork

loading = threading.RLock()
"""Held while modules are imported late: a child that was forked meanwhile could never import them."""

at_fork(before=loading.acquire, after_in_parent=loading.release, after_in_child=loading.release)
