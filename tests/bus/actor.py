"""A process of the tests that carries out commands from a socket, one JSON object a line, each in a thread of its own.

`python actor.py SOCKET` imports everything once, opens nothing, and forks a process for each connection.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
sys.modules["eventlet"] = None
import oslo_service.backend

oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)
import oslo_messaging
from oslo_config import cfg
from oslo_messaging import Target

from atoll.bus import driver, options, router
from atoll.bus.access import Client
from atoll.zenoh_link.config import Tls

assert driver
GATE_S = 0.005
"""Seconds between two looks at a gate, a file by which a test lets a method continue."""


class Endpoint:
    """Methods of a server. Each execution is appended to the journal `executed`, a file that all processes of a test share."""

    def __init__(self, name: str, executed: str) -> None:
        self.name, self.executed = name, executed

    def _note(self, what: Any) -> None:
        with Path(self.executed).open("a") as file:
            file.write(f"{self.name} {what}\n")

    def who(self, ctxt):
        return self.name

    def pid(self, ctxt):
        return os.getpid()

    def echo(self, ctxt, data):
        return data

    def size(self, ctxt, data):
        return len(data)

    def blob(self, ctxt, size):
        return "x" * size

    def tell(self, ctxt, what):
        self._note(what)
        return what

    def hold(self, ctxt, what, gate):
        """Note `what` at once, and return it when the file `gate` exists."""
        self._note(what)
        while not Path(gate).exists():
            time.sleep(GATE_S)
        return what

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        self._note(payload)

    warn = info


class Actor:
    """The commands of a process: its methods without a leading underscore."""

    def __init__(self) -> None:
        self._servers: dict[str, Any] = {}
        self._held = contextlib.ExitStack()
        self._log: list[str] = []

    def configure(self, url: str, executed: str, **given: Any) -> int:
        """Set the address of the bus and the driver's options; nothing is opened."""
        cfg.CONF([], project="bus")
        options.register(cfg.CONF)
        for name, value in given.items():
            cfg.CONF.set_override(name, value, options.GROUP)
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self._log.append(record.getMessage())
        logging.getLogger("atoll").addHandler(handler)
        self._url, self._executed = url, executed
        self._transport = oslo_messaging.get_rpc_transport(cfg.CONF, url)
        self._notifications = oslo_messaging.get_notification_transport(cfg.CONF, url)
        return os.getpid()

    def _threads(self, number: int) -> None:
        cfg.CONF.register_opts(oslo_messaging.server._pool_opts)
        cfg.CONF.set_override("executor_thread_pool_size", number)

    def serve(self, server: str, topic: str = "t", threads: int = 64) -> None:
        self._threads(threads)
        made = oslo_messaging.get_rpc_server(self._transport, Target(topic=topic, server=server), [Endpoint(server, self._executed)])
        made.start()
        self._servers[server] = made

    def serve_topics(self, count: int) -> None:
        for number in range(count):
            target = Target(topic=f"t{number}", server="s")
            self._servers[target.topic] = oslo_messaging.get_rpc_server(self._transport, target, [Endpoint(target.topic, self._executed)])
            self._servers[target.topic].start()

    def listen(self, pool: str | None = None, name: str = "", topic: str = "notes") -> None:
        self._threads(1)  # with more, oslo.messaging keeps no order
        endpoint = Endpoint(name, self._executed)
        made = oslo_messaging.get_notification_listener(self._notifications, [Target(topic=topic)], [endpoint], pool=pool)
        made.start()
        self._servers[name] = made

    def stop(self, server: str) -> None:
        """Stop as a service does: take no further message, and finish the present ones."""
        made = self._servers.pop(server)
        made.stop()
        made.wait()

    def _client(self, topic: str, server: str | None, retry: int | None, fanout: bool, **given: Any) -> Any:
        client = oslo_messaging.get_rpc_client(self._transport, Target(topic=topic, server=server), **given)
        return client.prepare(fanout=fanout or None, retry=retry)

    def call(self, method: str, topic="t", server=None, retry=None, timeout=60, monitor=None, **arguments):
        client = self._client(topic, server, retry, False, timeout=timeout, call_monitor_timeout=monitor)
        return client.call({}, method, **arguments)

    def cast(self, method: str, topic="t", server=None, retry=None, fanout=False, **arguments):
        self._client(topic, server, retry, fanout).cast({}, method, **arguments)

    def tell_each(self, how: str, words: list, topic="t", server=None, threads=1, retry=None, timeout=60):
        """Send each word once; return the results of the calls, in their order."""
        client = self._client(topic, server, retry, False, timeout=timeout)
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda word: getattr(client, how)({}, "tell", what=word), words))

    def cast_each(self, words: list, threads: int) -> list:
        """Cast each word once; return the acknowledged ones."""
        client = self._client("t", None, -1, False)

        def cast(word: Any) -> bool:
            try:
                client.cast({}, "tell", what=word)
            except oslo_messaging.MessageDeliveryFailure as error:
                if "may have been executed" in str(error):
                    return False
                raise
            return True

        with ThreadPoolExecutor(threads) as pool:
            return [word for word, taken in zip(words, pool.map(cast, words), strict=True) if taken]

    def ask_topics(self, count: int) -> list[str]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda number: self.call("who", f"t{number}"), range(count)))

    def ask_from_threads(self, threads: int, each: int) -> int:
        """Call from all threads at once, each with a word of its own; return how many got their own word back."""
        barrier = threading.Barrier(threads)

        def ask(thread: int) -> int:
            barrier.wait()
            return sum(self.call("echo", data=f"{thread}.{number}") == f"{thread}.{number}" for number in range(each))

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(ask, range(threads)))

    def notify(self, payloads: list, priority: str = "info", topic: str = "notes") -> None:
        notifier = oslo_messaging.Notifier(self._notifications, "me", driver="messaging", topics=[topic])
        for payload in payloads:
            getattr(notifier, priority)({}, "it.happened", payload)

    def exchange(self, size: int) -> list[int]:
        """Send a message of this size, and receive one."""
        return [self.call("size", data="x" * size), len(self.call("blob", size=size))]

    def exchange_at_once(self, size: int, threads: int) -> list[list[int]]:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self.exchange, [size] * threads))

    def route(
        self, listen: list[str], connect: list[str], socket_dir: str, lease: float, tls: list[str] | None = None, allow: Sequence[str] = ()
    ) -> None:
        """Run a router that trusts the holders of some certificates."""
        clients = [Client(name) for name in allow]
        self._held.enter_context(router.router(listen, connect, Path(socket_dir), Tls(*tls) if tls else None, lease, clients))

    def log(self) -> list[str]:
        """Return the driver's log messages, from warnings up."""
        return list(self._log)

    def fork(self, path: str) -> int:
        """Fork a process that listens for its own commands at a socket."""
        pid = os.fork()
        if pid == 0:
            _serve_one(path, self)
        return pid

    def count_threads(self) -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    def cleanup(self) -> None:
        self._transport.cleanup()
        self._notifications.cleanup()

    def close(self) -> None:
        """Stop the router of this process."""
        self._held.close()


def _answer(actor: Actor, stream: socket.socket, lock: threading.Lock, asked: dict[str, Any]) -> None:
    try:
        answer = {"result": getattr(actor, asked["do"])(**asked["with"])}
    except BaseException as error:
        answer = {"error": [kind.__name__ for kind in type(error).__mro__], "text": str(error)}
    with lock, contextlib.suppress(OSError):
        stream.sendall(json.dumps({"id": asked["id"], **answer}).encode() + b"\n")


def _obey(stream: socket.socket, actor: Actor) -> None:
    lock = threading.Lock()
    for line in stream.makefile("rb"):
        asked = json.loads(line)
        if asked["do"] in {"configure", "fork"}:
            _answer(actor, stream, lock, asked)  # without a thread
        else:
            threading.Thread(target=_answer, args=(actor, stream, lock, asked), daemon=True).start()


def _serve_one(path: str, actor: Actor) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        stream, _ = listening.accept()
    _obey(stream, actor)
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen(100)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            stream, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _obey(stream, Actor())
                # The test has closed its end, or died.
                os._exit(0)
            stream.close()


if __name__ == "__main__":
    main()
