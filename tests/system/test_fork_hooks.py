"""at_fork(), and a system that has no fork."""

from __future__ import annotations

import os

import pytest

from nat_observability.system.fork_hooks import at_fork


def test_only_what_is_given_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.register_at_fork` refuses a hook that is None."""
    registered: list[dict[str, object]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: registered.append(hooks))
    at_fork(before=print, after_in_child=dict)
    assert registered == [{"before": print, "after_in_child": dict}]


def test_a_system_without_forks_needs_no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where the function itself is missing."""
    monkeypatch.delattr(os, "register_at_fork")
    at_fork(before=lambda: pytest.fail("called"))
