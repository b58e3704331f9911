"""main(): the entry point, which says what to install if the command's own packages are missing."""

from __future__ import annotations

import signal
import sys

from nat_observability.errors import MissingExtraError

_NEEDED = ("click", "rich")


def main() -> None:
    """Run the command with the process's arguments and exit with its code."""
    try:
        from nat_observability.cli.commands import cli
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.exit(f"error: {MissingExtraError('The command nat-observability', 'cli')}")
    # A service manager's signal ends a command as Ctrl-C does: what was recorded until then is delivered.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A script's shell starts background jobs like this, and SIGTERM has to end those too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli(prog_name="nat-observability")
