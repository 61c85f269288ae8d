"""A rehearsal inside each process, after which only the transport adds memory.

Some memory is needed with every transport: stacks of threads, objects of messages, and pages shared with the parent process, which are
copied when Python counts references in them. So each process first works for a second over oslo.messaging's `fake://`, which delivers
messages inside a process. The memory that the process needs later, in addition, is the transport's.
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
"""Size of a message's payload in bytes."""

_URL = "fake://"
_SECONDS = 1.0


def payload() -> str:
    """Return a random payload of `PAYLOAD_BYTES` bytes, as hexadecimal text."""
    return secrets.token_hex(PAYLOAD_BYTES // 2)


def serve() -> tuple[Any, int]:
    """Start a server in this process for clients in this process.

    Returns:
        The server, and the number of its threads; each has executed a call.
    """
    from oslo_config import cfg
    from oslo_messaging import Target, get_rpc_client, get_rpc_server, get_rpc_transport

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
    """Have threads make calls and casts over `fake://`.

    Args:
        threads: the clients' threads.
        text: the payload of each message.
    """
    from oslo_config import cfg
    from oslo_messaging import Target, get_rpc_client, get_rpc_transport

    client = get_rpc_client(get_rpc_transport(cfg.CONF, url=_URL), Target(topic=TOPIC))
    now = time.monotonic()
    threads.run(lambda _number: work(Window(now, now, now + _SECONDS), lambda: client.call({}, "echo", payload=text)))
    threads.run(lambda _number: client.cast({}, "note", payload=text))


def tidy() -> None:
    """Release the memory of the rehearsal's objects."""
    gc.collect()
