"""The experiment without a transport: what it costs is not the transport's.

A thread's stack, a message's objects, pages of the parent process that are copied when Python counts references in them: all that is there
whatever carries the messages. So before a transport is opened each process does for a second what it will do, over oslo.messaging's `fake://`,
which hands messages over inside a process. What the memory grows by after that is what the transport adds.
"""

from __future__ import annotations

import gc
import secrets
import time
from typing import Any

from atoll.bench.bus.endpoints import Echo, Gathering
from atoll.bench.bus.transport import TOPIC
from atoll.bench.bus.work import Threads, Window, work

PAYLOAD_BYTES = 1024
"""What a message carries."""

_URL = "fake://"
_SECONDS = 1.0


def payload() -> str:
    """What a message carries."""
    return secrets.token_hex(PAYLOAD_BYTES // 2)


def serve() -> tuple[Any, int]:
    """A server of this process for this process.

    Returns:
        The server, and how many threads it has; all of them have worked.
    """
    from oslo_config import cfg  # noqa: PLC0415 - see `open_transport`
    from oslo_messaging import Target, get_rpc_client, get_rpc_server, get_rpc_transport  # noqa: PLC0415

    cfg.CONF([], project="atoll-bench", default_config_files=[])
    transport = get_rpc_transport(cfg.CONF, url=_URL)
    threads = cfg.CONF.executor_thread_pool_size if "executor_thread_pool_size" in cfg.CONF else 64
    server = get_rpc_server(transport, Target(topic=TOPIC, server="rehearsal"), [Echo(), Gathering(threads)])
    server.start()
    client = get_rpc_client(transport, Target(topic=TOPIC))
    crowd = Threads(threads)
    crowd.run(lambda _number: client.call({}, "meet"))
    crowd.end()
    return server, threads


def play(threads: Threads, text: str) -> None:
    """Have threads call and cast.

    Args:
        threads: those of the clients.
        text: of each message.
    """
    from oslo_config import cfg  # noqa: PLC0415
    from oslo_messaging import Target, get_rpc_client, get_rpc_transport  # noqa: PLC0415

    client = get_rpc_client(get_rpc_transport(cfg.CONF, url=_URL), Target(topic=TOPIC))
    now = time.monotonic()
    threads.run(lambda _number: work(Window(now, now, now + _SECONDS), lambda: client.call({}, "echo", payload=text)))
    threads.run(lambda _number: client.cast({}, "note", payload=text))


def tidy() -> None:
    """Let go of what is over."""
    gc.collect()
