"""The command `atoll` with crash points, at which it dies if the plan says so: `python -m atoll.bench.crashes.command site join …`."""

from __future__ import annotations

import runpy

from atoll.bench.crashes.hooks import install_in_command

if __name__ == "__main__":
    install_in_command()
    runpy.run_module("atoll", run_name="__main__", alter_sys=True)
