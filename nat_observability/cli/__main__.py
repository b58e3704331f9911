"""Lets `python -m nat_observability.cli` run the command."""

from nat_observability.cli.entry import main

main()
