"""A cloud for one experiment: started from a document, and destroyed at the end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from atoll.bench.command import atoll, await_end, begin
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
        environment: the environment of the commands.
    """

    state: State
    log: Path
    up_s: float
    environment: Mapping[str, str] = field(default_factory=dict)


class Companion:
    """A program or resource that a cloud needs beside it, such as a broker in a site's network.

    It is started and ended together with the cloud. A subclass overrides the methods that it needs; the others do nothing.
    """

    def before_start(self, state: State) -> None:
        """Do the preparation that is necessary before the cloud starts."""

    def during_start(self, state: State, command: subprocess.Popen[bytes]) -> None:
        """Do the part of the start that needs the networks of the starting cloud.

        Args:
            state: the state directory.
            command: the command that starts the cloud. This method may stop it by SIGSTOP, and continue it by SIGCONT.
        """

    def before_destroy(self, stop: Callable[[], None]) -> None:
        """Release the resources in the cloud's directory, before the cloud is destroyed.

        Args:
            stop: stops the processes of the cloud.
        """

    def after_destroy(self) -> None:
        """End this companion, because the cloud has been destroyed."""


@contextmanager
def own_cloud(
    root: Path, document: Mapping[str, Any], environment: Mapping[str, str], companions: Sequence[Companion] = ()
) -> Iterator[OwnCloud]:
    """Start a cloud, yield it, and destroy it when the context ends or the start fails.

    Args:
        root: an existing directory for the cloud alone.
        document: the cloud, as in its YAML file.
        environment: the environment of the commands.
        companions: the programs and resources that the cloud needs beside it.

    Raises:
        AtollError: `bench.failed`: a command failed.
    """
    state, file, log = State(root / "s"), root / "cloud.yaml", root / "commands.log"
    file.write_text(dump_cloud(Cloud.model_validate(document)), encoding="utf-8")
    run = partial(atoll, state, log, environment)
    begun = time.monotonic()
    try:
        for companion in companions:
            companion.before_start(state)
        if companions:
            _start_beside(companions, state, file, log, environment)
        else:
            run("up", str(file))
    except BaseException:
        with suppress(AtollError):
            _destroy(companions, run)
        raise
    try:
        yield OwnCloud(state, log, time.monotonic() - begun, environment)
    finally:
        _destroy(companions, run)


def _start_beside(companions: Sequence[Companion], state: State, file: Path, log: Path, environment: Mapping[str, str]) -> None:
    """Start a cloud together with its companions."""
    command = begin(state, log, environment, "up", str(file))
    try:
        for companion in companions:
            companion.during_start(state, command)
        await_end(command, log)
    finally:
        if command.poll() is None:
            command.terminate()
            command.wait()


def _destroy(companions: Sequence[Companion], run: Callable[..., None]) -> None:
    try:
        for companion in reversed(companions):
            companion.before_destroy(lambda: run("down"))
        run("destroy", "--yes")
    finally:
        for companion in reversed(companions):
            companion.after_destroy()
