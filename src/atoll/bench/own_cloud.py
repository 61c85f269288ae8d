"""A cloud for one experiment: started from a document, and destroyed at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.bench.command import atoll
from atoll.cloud import Cloud, dump_cloud
from atoll.errors import AtollError
from atoll.site.state import State


@dataclass(frozen=True)
class OwnCloud:
    """A running cloud of an experiment.

    Attributes:
        state: the state directory.
        log: the file for the output of commands.
        up_s: seconds that `atoll up` took.
    """

    state: State
    log: Path
    up_s: float


@contextmanager
def own_cloud(root: Path, document: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[OwnCloud]:
    """Start a cloud, yield it, and destroy it when the context ends or the start fails.

    Args:
        root: an existing directory for the cloud alone.
        document: the cloud, as in its YAML file.
        environment: the environment of the commands.

    Raises:
        AtollError: `bench.failed`: a command failed.
    """
    state, file, log = State(root / "s"), root / "cloud.yaml", root / "commands.log"
    file.write_text(dump_cloud(Cloud.model_validate(document)), encoding="utf-8")
    begun = time.monotonic()
    try:
        atoll(state, log, environment, "up", str(file))
    except BaseException:
        with suppress(AtollError):
            atoll(state, log, environment, "destroy", "--yes")
        raise
    try:
        yield OwnCloud(state, log, time.monotonic() - begun)
    finally:
        atoll(state, log, environment, "destroy", "--yes")
