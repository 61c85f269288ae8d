"""The programs of a deployment, run in the background as a service manager would."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atoll.bench.failure import failed
from atoll.bench.processes import family

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Program:
    """A program and its arguments.

    Attributes:
        name: the name of its log.
        command: the program and its arguments.
        environment: environment variables in addition to those of the experiment.
        directory: the working directory; `None` means the log directory.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None


class Daemons:
    """Background programs that run until they are stopped.

    Args:
        logs: the directory of their logs; it must exist.
        environment: the environment of all programs.
        tied: whether the kernel kills the programs when the thread that started them ends.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], *, tied: bool = True) -> None:
        self._wrapper = ("setpriv", "--pdeathsig", "TERM") if tied else ()
        self._logs = logs
        self._environment = dict(environment)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, programs: Iterable[Program]) -> None:
        """Start programs without waiting for them."""
        for program in programs:
            self._running[program.name] = self._begin(program, *self._wrapper)

    def run(self, program: Program) -> None:
        """Run a program and wait for its end.

        Raises:
            AtollError: `bench.failed`: a program failed; the message is its last line.
        """
        process = self._begin(program)
        if process.wait() != 0:
            raise self._failure(program.name, process.returncode)

    def run_all(self, *chains: Iterable[Program]) -> None:
        """Run several sequences of programs at the same time.

        Raises:
            AtollError: `bench.failed`: a program failed; the message is its last line.
        """
        waiting = [list(chain) for chain in chains]
        running = {id(chain): (chain[0].name, self._begin(chain.pop(0))) for chain in waiting if chain}
        while running:
            for chain in waiting:
                if id(chain) not in running:
                    continue
                name, process = running.pop(id(chain))
                if process.wait() != 0:
                    raise self._failure(name, process.returncode)
                if chain:
                    running[id(chain)] = (chain[0].name, self._begin(chain.pop(0)))

    def check(self) -> None:
        """Check that no program has ended by itself.

        Raises:
            AtollError: `bench.failed`: a program failed; the message is its last line.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise self._failure(name, process.returncode)

    def pids(self) -> list[int]:
        """Return the ids of all running programs and their descendants."""
        return family(process.pid for process in self._running.values())

    def stop(self) -> None:
        """Stop all programs, the latest first."""
        for process in reversed(self._running.values()):
            process.terminate()
        for process in reversed(self._running.values()):
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _begin(self, program: Program, *wrapper: str) -> subprocess.Popen[bytes]:
        with self._log(program.name).open("ab") as log:
            return subprocess.Popen(
                [*wrapper, *program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environment, **program.environment},
                cwd=program.directory or self._logs,
                start_new_session=True,  # Ctrl-C must reach only the experiment, which then stops the programs in order
            )

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _failure(self, name: str, code: int) -> Exception:
        lines = self._log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return failed(f"{name} ended with exit status {code}: {lines[-1][:300] if lines else 'its log is empty'}")
