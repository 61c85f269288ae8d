"""The driver's options, in the group `[oslo_messaging_zenoh]` of a service's configuration."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from oslo_config import cfg

from atoll.bus.realms import LARGEST, OWN

GROUP = "oslo_messaging_zenoh"


def default_socket_dir() -> str:
    """Return a directory of this user that is emptied when the machine restarts."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return str(Path(runtime, "oslo-zenoh") if runtime else Path(tempfile.gettempdir(), f"oslo-zenoh-{os.getuid()}"))


def default_outbox_dir() -> str:
    """Return a directory of this user that outlives a restart of the machine."""
    state = os.environ.get("XDG_STATE_HOME")
    return str(Path(state) / "oslo-zenoh" if state else Path.home() / ".local" / "state" / "oslo-zenoh")


OPTIONS = (
    cfg.StrOpt(
        "socket_dir",
        default="",
        sample_default="$XDG_RUNTIME_DIR/oslo-zenoh",
        help="Directory of the Unix sockets by which the processes of this machine reach each other: the same for all processes of a bus. "
        '"none": no Unix sockets.',
    ),
    cfg.StrOpt(
        "mode",
        default="peer",
        choices=[("peer", "reach other processes directly"), ("client", "send everything through the router that the URL names")],
        help="Role of the process in the Zenoh network.",
    ),
    cfg.ListOpt("listen", default=[], help="Further Zenoh endpoints to listen at, such as tcp/0.0.0.0:7447 or tls/0.0.0.0:7447."),
    cfg.BoolOpt("tls", default=False, help="Connect to the hosts of the URL by TLS."),
    cfg.StrOpt("tls_ca_file", default="", help="Certificates of the authorities that may have signed the other side's certificate (PEM)."),
    cfg.StrOpt(
        "tls_cert_file", default="", help="This side's certificate (PEM). With it, both sides must show a certificate (mutual TLS)."
    ),
    cfg.StrOpt("tls_key_file", default="", help="The key of tls_cert_file (PEM)."),
    cfg.BoolOpt("tls_verify_name", default=True, help="The other side's certificate must name the host that was connected to."),
    cfg.IntOpt(
        "realm",
        default=OWN,
        min=OWN,
        max=LARGEST,
        help="Number by which a router with limited clients tells them apart; 0 for a process that is no such client.",
    ),
    cfg.BoolOpt("multicast_scouting", default=False, help="Look for other processes by multicast in the local network."),
    cfg.StrOpt(
        "selection",
        default="balanced",
        choices=[("balanced", "the servers take turns"), ("nearest", "the server that answers soonest, measured every few seconds")],
        help="Server of a topic that gets the next message.",
    ),
    cfg.IntOpt(
        "default_retries",
        default=0,
        min=-1,
        help="Further attempts to send a message while nobody listens, if its sender sets no number (retry=None). 0: an error at once. "
        "-1: no limit (a call: until its timeout).",
    ),
    cfg.FloatOpt("retry_interval", default=1.0, min=0.01, help="Seconds between two attempts while nobody listens."),
    cfg.FloatOpt(
        "question_interval", default=1.0, min=0.05, help="Seconds without an answer after which a sender asks what became of its message."
    ),
    cfg.FloatOpt(
        "lost_server_timeout",
        default=30.0,
        min=0,
        help="Seconds to wait for a server that vanished with a message: its link may heal, or it may be restarted.",
    ),
    cfg.FloatOpt("lease", default=10.0, min=0.1, help="Seconds of silence after which a link counts as broken."),
    cfg.IntOpt(
        "seen_per_sender",
        default=10_000,
        min=100,
        help="Number of messages of one sender that a server remembers, so that none is executed twice.",
    ),
    cfg.StrOpt(
        "journal_dir",
        default="",
        help="Directory where a server keeps the casts that it acknowledged and has not begun: the successor of a server that was "
        "killed executes them. Empty: they are kept in memory, and a kill loses them.",
    ),
    cfg.StrOpt(
        "outbox_dir",
        default="",
        sample_default="$XDG_STATE_HOME/oslo-zenoh",
        help='Directory where notifications wait while nobody listens. "none": they are not kept, and their senders get an error.',
    ),
    cfg.BoolOpt(
        "durable",
        default=True,
        help="Flush journals and outboxes to the disk before a message is acknowledged, so that it survives a loss of power. Without this "
        "option, it survives the death of the process.",
    ),
    cfg.IntOpt(
        "outbox_size_mb",
        default=64,
        min=1,
        help="Greatest size of the outbox in MiB; when it is full, the oldest notifications are dropped.",
    ),
)


def register(conf: Any) -> Any:
    """Register the options with `conf` and return their group."""
    conf.register_opts(OPTIONS, group=GROUP)
    return getattr(conf, GROUP)


def directory(value: str, default: str) -> Path | None:
    """Return the directory that an option names: `default` for an empty value, `None` for "none"."""
    if value == "none":
        return None
    return Path(value or default)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options for oslo-config-generator (entry point `oslo.config.opts`)."""
    return [(GROUP, list(OPTIONS))]
