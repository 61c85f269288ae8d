"""The stage of the tests: starts processes, cuts links between them, and waits."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

PATIENCE_S = 60
"""Seconds after which a test stops waiting; only a failure takes so long."""


class ActorError(Exception):
    """The exception that a process's command raised."""

    def __init__(self, kinds: list[str], text: str) -> None:
        super().__init__(f"{kinds[0]}: {text}")
        self.kinds, self.text = kinds, text


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until `condition` holds, and return its result."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not happen in {PATIENCE_S} s"
        time.sleep(0.01)
    return found


class Process:
    """A process of the bus that carries out commands."""

    def __init__(self, path: Path) -> None:
        self._stream = socket.socket(socket.AF_UNIX)
        until(lambda: self._connect(path), f"{path} answers")
        self._answers: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Kill the process and release its resources."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
        self.kill()
        self._stream.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._stream.close()
        os.close(self._pidfd)

    def _connect(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            self._stream.connect(str(path))
            return True
        return False

    def begin(self, do: str, **given: Any) -> Future[Any]:
        """Send a command; its answer comes later."""
        with self._lock:
            number = len(self._answers)
            answer = self._answers[number] = Future()
            self._stream.sendall(json.dumps({"id": number, "do": do, "with": given}).encode() + b"\n")
        return answer

    def do(self, command: str, **given: Any) -> Any:
        """Send a command and return its answer."""
        return self.begin(command, **given).result(PATIENCE_S)

    def configure(self, *arguments: Any, **given: Any) -> None:
        self.pid = self.do("configure", url=arguments[0], executed=arguments[1], **given)
        self._pidfd = os.pidfd_open(self.pid)

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._stream.makefile("rb") as lines:
            for line in lines:
                told = json.loads(line)
                answer = self._answers[told["id"]]
                if "error" in told:
                    answer.set_exception(ActorError(told["error"], told["text"]))
                else:
                    answer.set_result(told["result"])

    def signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process is dead."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        assert poll.poll(PATIENCE_S * 1000), f"process {self.pid} does not die"


class Proxy:
    """A TCP link between two processes that a test can slow, freeze, heal and reset."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.delay_s = 0.0
        self.accepted = 0

    def freeze(self) -> None:
        """Forward nothing, accept nothing and close nothing, as when a cable is cut."""
        self._flowing.clear()

    def heal(self) -> None:
        self._flowing.set()

    def reset(self) -> None:
        """Break all connections of the link."""
        for end in list(self._open):
            _shut(end)

    def close(self) -> None:
        self.heal()
        _shut(self._listening)
        self._threads[0].join()
        self._listening.close()
        self.reset()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self.accepted += 1
                self._flowing.wait()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._forward, args=(source, sink), daemon=True))
                    self._threads[-1].start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if self.delay_s:
                    time.sleep(self.delay_s)
                sink.sendall(data)
        _shut(source)
        _shut(sink)
        self._open.discard(source)
        source.close()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


class Stage:
    """The processes, links and files of one test."""

    def __init__(self, directory: Path, actors: Path) -> None:
        self.directory, self._actors = directory, actors
        self.executed = directory / "executed"
        self.executed.touch()
        self._processes: list[Process] = []
        self._proxies: list[Proxy] = []

    def process(self, url: str = "zenoh:///v", machine: str = "m", **given: Any) -> Process:
        """Start a process that has opened nothing; `machine` names the machine whose socket directory and disk it uses."""
        made = Process(self._actors)
        self.adopt(made, url, machine, **given)
        return made

    def adopt(self, process: Process, url: str = "zenoh:///v", machine: str = "m", **given: Any) -> None:
        settings = {
            "socket_dir": str(self.directory / machine),
            "outbox_dir": str(self.directory / f"{machine}-outbox"),
            "question_interval": 0.2,
            "lost_server_timeout": 20,
            "lease": 2,
        }
        process.configure(url, str(self.executed), **settings | given)
        self._processes.append(process)

    def server(self, name: str = "s", threads: int = 64, **given: Any) -> Process:
        made = self.process(**given)
        made.do("serve", server=name, threads=threads)
        return made

    def router(self, machine: str, listen: list[str], connect: list[str], **given: Any) -> Process:
        made = self.process(machine=machine)
        made.do("route", listen=listen, connect=connect, socket_dir=str(self.directory / machine), lease=2, **given)
        return made

    def proxy(self, target: int) -> Proxy:
        self._proxies.append(Proxy(target))
        return self._proxies[-1]

    def heard(self) -> list[str]:
        """Return the executed words in order, as `SERVER WORD`."""
        return self.executed.read_text().splitlines()

    def words(self) -> list[str]:
        return [line.split(" ", 1)[1] for line in self.heard()]

    def await_words(self, *words: object) -> None:
        """Wait until all of the words were executed, and check that each was executed once."""
        wanted = sorted(map(str, words))
        until(lambda: set(wanted) <= set(self.words()), f"{len(wanted)} words are heard")
        assert sorted(self.words()) == wanted

    def gate(self, name: str) -> Path:
        return self.directory / name

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        for process in self._processes:
            process.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def actors(directory: Path) -> Iterator[Path]:
    """Start the process from which the others are forked."""
    path = directory / "actors"
    program = Path(__file__).with_name("actor.py")
    with subprocess.Popen([sys.executable, str(program), str(path)], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "ready\n"
            yield path
        finally:
            parent.kill()
