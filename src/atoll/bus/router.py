"""A router between sites: joins the peers of this machine to routers, and peers, elsewhere.

`python -m atoll.bus.router --listen tcp/0.0.0.0:7447 --connect tcp/other.example:7447`
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import zenoh

from atoll.bus import linger, options, peers
from atoll.bus.zenoh_config import Tls, session_config


@contextlib.contextmanager
def router(
    listen: Sequence[str], connect: Sequence[str] = (), socket_dir: Path | None = None, tls: Tls | None = None, lease_s: float = 10.0
) -> Iterator[zenoh.Session]:
    """A router, for as long as the context lasts.

    Args:
        listen: Zenoh endpoints for other sites (`tls/0.0.0.0:7447`).
        connect: Zenoh endpoints of other sites' routers; those that don't answer are tried again for ever.
        socket_dir: the directory of this machine's peers; None: no Unix socket.
        tls: files for the endpoints that begin with `tls/`.
        lease_s: seconds of silence after which a link counts as broken.

    Raises:
        ValueError: a setting is wrong.
        OSError, zenoh.ZError: an endpoint can't be listened at.
    """
    name = f"router-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        own, others = stack.enter_context(peers.joining(socket_dir, name)) if socket_dir else ("", [])
        endpoints = [*listen, own] if own else list(listen)
        session = zenoh.open(session_config(mode="router", listen=endpoints, connect=[*connect, *others], lease_s=lease_s, tls=tls))
    no_linger = linger.watch(session)
    try:
        yield session
    finally:
        no_linger.undeclare()
        session.close()  # type: ignore[no-untyped-call]
        if socket_dir:
            peers.leave(socket_dir, name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a router until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m atoll.bus.router", description="A router of the zenoh:// bus.")
    parser.add_argument("--listen", action="append", required=True, metavar="ENDPOINT", help="where other sites connect: tls/0.0.0.0:7447")
    parser.add_argument("--connect", action="append", default=[], metavar="ENDPOINT", help="a router of another site: tls/other:7447")
    parser.add_argument("--socket-dir", default="", help='of this machine\'s peers (default: as in [oslo_messaging_zenoh]; "none": none)')
    parser.add_argument("--tls-ca", metavar="FILE", help="certificates of the authorities that signed the others' certificates")
    parser.add_argument("--tls-cert", metavar="FILE", default="", help="this router's certificate")
    parser.add_argument("--tls-key", metavar="FILE", default="", help="its key")
    given = parser.parse_args(arguments)
    tls = Tls(given.tls_ca, given.tls_cert, given.tls_key) if given.tls_ca else None
    socket_dir = options.directory(given.socket_dir, options.default_socket_dir())
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the session's threads start, so that none of them takes the signal.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with router(given.listen, given.connect, socket_dir, tls):
            signal.sigwait(ends)
    except (OSError, ValueError, zenoh.ZError) as error:
        print(f"error: the router can't start: {error}", file=sys.stderr)  # noqa: T201 - a program
        return 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
