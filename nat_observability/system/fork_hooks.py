"""at_fork(): what is called before and after a fork, on systems that have one."""

from __future__ import annotations

import os
from collections.abc import Callable


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    after_in_parent: Callable[[], object] | None = None,
    after_in_child: Callable[[], object] | None = None,
) -> None:
    """Do as `os.register_at_fork`, and nothing on Windows, which has neither that nor a fork."""
    register = getattr(os, "register_at_fork", None)
    if register is None:
        return
    hooks = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
    register(**{when: hook for when, hook in hooks.items() if hook is not None})
