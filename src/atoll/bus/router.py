"""A router between sites: joins the peers of this machine to routers and peers elsewhere.

`python -m atoll.bus.router --listen tls/0.0.0.0:7447 --connect tls/other.example:7447 --allow other …`

A TLS link whose certificate is not on the access list (`atoll.bus.access`) can do nothing, and is closed.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import signal
import socket
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import zenoh

from atoll.bus import access, options, peers
from atoll.bus.access import Client
from atoll.zenoh_link import linger
from atoll.zenoh_link.config import Tls, session_config
from atoll.zenoh_link.events import Follower


@contextlib.contextmanager
def router(  # noqa: PLR0913, PLR0917 - each is one of a router's settings
    listen: Sequence[str],
    connect: Sequence[str] = (),
    socket_dir: Path | None = None,
    tls: Tls | None = None,
    lease_s: float = 10.0,
    clients: Sequence[Client] = (),
) -> Iterator[zenoh.Session]:
    """Run a router for as long as the context lasts, and yield its session.

    Args:
        listen: Zenoh endpoints for other sites (`tls/0.0.0.0:7447`).
        connect: Zenoh endpoints of other sites' routers; the connection to one that does not answer is retried for ever.
        socket_dir: the directory of this machine's peers; `None` for no Unix socket.
        tls: files for the endpoints that begin with `tls/`.
        lease_s: seconds without a message after which a link is considered broken.
        clients: the access list: the certificates that open a TLS link, in either direction.

    Raises:
        ValueError: a setting is wrong.
        OSError, zenoh.ZError: an endpoint can't be bound.
    """
    name = f"router-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        own, others = stack.enter_context(peers.joining(socket_dir, name)) if socket_dir else ("", [])
        endpoints = [*listen, own] if own else list(listen)
        config = session_config(mode="router", listen=endpoints, connect=[*connect, *others], lease_s=lease_s, tls=tls)
        if tls is not None:
            access.apply(config, clients)
        session: Any = zenoh.open(config)
    followers = [linger.watch(session), _close_unlisted(session, {client.common_name for client in clients})]
    try:
        yield session
    finally:
        for follower in followers:
            follower.stop()
        session.close()
        if socket_dir:
            peers.leave(socket_dir, name)


def _close_unlisted(session: zenoh.Session, listed: Collection[str]) -> Follower:
    """Close links whose certificate is not on the access list, now and whenever a link is opened.

    Returns:
        The thread that does so; stop it before the session is closed.
    """
    info: Any = session.info
    follower = Follower(info.declare_link_events_listener, partial(_close_links, info, listed), "unlisted-links")
    _close_links(info, listed)
    return follower


def _close_links(info: Any, listed: Collection[str]) -> None:
    by_tls = [link for link in info.links() if str(link.dst).startswith("tls/")]
    unlisted = {str(link.dst).partition("/")[2] for link in by_tls if link.auth_identifier not in listed}
    if not unlisted:
        return
    for connection in linger.connections():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            host, port, *_ = connection.getpeername()
            if f"{host}:{port}" in unlisted or f"[{host}]:{port}" in unlisted:
                connection.shutdown(socket.SHUT_RDWR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a router until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m atoll.bus.router", description="A router of the zenoh:// bus.")
    parser.add_argument("--listen", action="append", required=True, metavar="ENDPOINT", help="where other sites connect: tls/0.0.0.0:7447")
    parser.add_argument("--connect", action="append", default=[], metavar="ENDPOINT", help="a router of another site: tls/other:7447")
    parser.add_argument(
        "--socket-dir", default="", help='directory of the local sockets (default: as in [oslo_messaging_zenoh]; "none": no sockets)'
    )
    parser.add_argument("--tls-ca", metavar="FILE", help="certificates of the authorities that signed the others' certificates")
    parser.add_argument("--tls-cert", metavar="FILE", default="", help="this router's certificate")
    parser.add_argument("--tls-key", metavar="FILE", default="", help="its key")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="NAME", help="the common name of a certificate whose holder may use the whole bus"
    )
    given = parser.parse_args(arguments)
    tls = Tls(given.tls_ca, given.tls_cert, given.tls_key) if given.tls_ca else None
    socket_dir = options.directory(given.socket_dir, options.default_socket_dir())
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the session's threads start, so that none of them takes the signal.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with router(given.listen, given.connect, socket_dir, tls, clients=[Client(name) for name in given.allow]):
            signal.sigwait(ends)
    except (OSError, ValueError, zenoh.ZError) as error:
        print(f"error: the router can't start: {error}", file=sys.stderr)  # noqa: T201 - a program
        return 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
