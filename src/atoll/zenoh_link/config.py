"""Zenoh's configuration, from the settings that the bus and the mesh offer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zenoh

_RUNTIME = "(app: (worker_threads: 1), net: (handover: app), acc: (handover: app), rx: (handover: app), tx: (handover: app))"
"""The thread pools of Zenoh: one thread for everything, where it would start up to nine. A process sends a few thousand messages a
second at most, and each further thread costs memory and context switches."""

CLIENT_CONNECT_MS = 3000
"""Milliseconds that a client waits for its router; a TLS link with a round trip of 300 ms takes a third of it."""


@dataclass(frozen=True)
class Tls:
    """The PEM files of one side of a TLS link. With a certificate, both sides must show one (mutual TLS)."""

    ca_file: str
    cert_file: str = ""
    key_file: str = ""
    verify_name: bool = True

    def check(self) -> None:
        """Check the files now: Zenoh would report a missing one only after its first connection.

        Raises:
            ValueError: a file is not named or does not exist.
        """
        if not self.ca_file:
            raise ValueError("TLS needs tls_ca_file, the certificate of the authority that signed the other side's")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("tls_cert_file and tls_key_file belong together: one of them is missing")
        for name in filter(None, (self.ca_file, self.cert_file, self.key_file)):
            if not Path(name).is_file():
                raise ValueError(f"TLS file {name} does not exist")


def session_config(  # noqa: PLR0913 - each is one of Zenoh's own settings
    *,
    mode: str,
    listen: Sequence[str],
    connect: Sequence[str],
    lease_s: float = 10.0,
    tls: Tls | None = None,
    multicast: bool = False,
) -> zenoh.Config:
    """Return a configuration for `zenoh.open`.

    Args:
        mode: peer, client or router.
        listen: endpoints to listen at (`tcp/0.0.0.0:7447`, `unixsock-stream//run/x.sock`).
        connect: endpoints to connect to, tried again for as long as the session lives.
        lease_s: seconds without a message after which a link is considered broken.
        tls: files for endpoints that begin with `tls/`.
        multicast: whether to look for others by multicast.

    Raises:
        ValueError: a file of `tls` is missing.
    """
    if mode != "router":
        # Zenoh reads this variable when a process opens its first session (zenoh-runtime/src/lib.rs). A router needs more threads: it
        # forwards in the receiving thread, which waits while a link is busy. If that were also the sending thread, it would wait for
        # itself.
        os.environ.setdefault("ZENOH_RUNTIME", _RUNTIME)
    settings = _settings(mode, listen, connect) | {
        "scouting/multicast/enabled": multicast,
        "transport/link/tx/lease": int(lease_s * 1000),
    }
    if tls is not None:
        settings |= _tls_settings(tls)
    config = zenoh.Config()
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return config


def _settings(mode: str, listen: Sequence[str], connect: Sequence[str]) -> dict[str, Any]:
    return {
        "mode": mode,
        "listen/endpoints": list(listen),
        "listen/exit_on_failure": True,
        "connect/endpoints": list(connect),
        # A peer tries an endpoint that does not answer again without end, in the background (-1). A client can't work without its router,
        # and opening its session would wait for one: so it fails, and the sender tries again. Once connected, Zenoh reconnects.
        "connect/timeout_ms": CLIENT_CONNECT_MS if mode == "client" else -1,
        "connect/exit_on_failure": mode == "client",
        "connect/retry": {"period_init_ms": 500, "period_max_ms": 2000, "period_increase_factor": 2},
        # Peers of one machine find each other in a directory, and routers are named. Gossip would only add direct connections beside the
        # routers.
        "scouting/gossip/enabled": False,
        # Frames are a few KiB: a segment of 16 MiB for each process would cost more than it saves.
        "transport/shared_memory/enabled": False,
        "transport/unicast/max_sessions": 65535,
    }


def _tls_settings(tls: Tls) -> dict[str, Any]:
    tls.check()
    prefix = "transport/link/tls/"
    settings: dict[str, Any] = {prefix + "root_ca_certificate": tls.ca_file, prefix + "verify_name_on_connect": tls.verify_name}
    if tls.cert_file:
        settings |= {
            prefix + "enable_mtls": True,
            prefix + "listen_certificate": tls.cert_file,
            prefix + "listen_private_key": tls.key_file,
            prefix + "connect_certificate": tls.cert_file,
            prefix + "connect_private_key": tls.key_file,
        }
    return settings
