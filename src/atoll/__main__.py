"""Runs the command line with `python -m atoll`."""

from atoll.cli import main

main()
