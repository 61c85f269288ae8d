"""A cloud of sites whose clocks a test sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from deployment import Deployment

from atoll.bench.faults.clocks import Clocks


@dataclass(frozen=True)
class ClockedCloud:
    """The sites and their clocks."""

    deployment: Deployment
    clocks: Clocks

    @classmethod
    def start(cls, make: Callable[..., Deployment], directory: Path, names: Sequence[str]) -> Self:
        """Start a full mesh of sites with fake guests and networks, 5 ms from each other; keep their clocks in the directory."""
        if not (shutil.which("cc") or shutil.which("gcc")):
            pytest.skip("a clock that is wrong needs a C compiler")
        clocks = Clocks(directory)
        deployment = make(**clocks.environment)
        sites = [{"name": name, "compute": "fake", "network": "fake"} for name in names]
        deployment.atoll("up", deployment.file(*sites, topology={"preset": "mesh", "defaults": {"delay": "5ms"}}))
        clocks.register({site: deployment.wan().namespace(site) for site in names})
        return cls(deployment, clocks)
