"""The configuration of the transports that are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOPIC = "bench"
"""The topic of all servers of an experiment."""

MODULES = {"zenoh": ("atoll.bus.driver",), "rabbit": ("oslo_messaging._drivers.impl_rabbit", "kombu.transport.pyamqp")}
"""The modules that processes with a transport need, by the name of the transport."""


@dataclass(frozen=True)
class Transport:
    """A transport of oslo.messaging with the options of a service's configuration file.

    Attributes:
        name: the scheme of the transport's URL.
        url: the value of `transport_url`.
        options: further options of oslo.config, by group.
        modules: the modules that processes with this transport need, imported before the processes are forked.
        journals: the directory of the servers' journals, which hold acknowledged casts that were not begun; `None` if there is none.
    """

    name: str
    url: str
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    journals: Path | None = None

    def write(self, path: Path) -> None:
        """Write the configuration file, readable by its owner alone because it may contain a password."""
        sections: dict[str, dict[str, str]] = {"DEFAULT": {"transport_url": self.url}}
        for group, options in self.options.items():
            sections.setdefault(group, {}).update(options)
        lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()) for group, options in sections.items()]
        path.touch(mode=0o600)
        path.write_text("\n".join(lines), encoding="utf-8")


def zenoh(directory: Path, *, journal: bool | None = None) -> Transport:
    """Return Atoll's transport, with peers on this machine.

    Args:
        directory: the experiment's own directory, for sockets and journals.
        journal: whether servers keep each acknowledged cast on the disk until they begin to execute it; `None` means the driver's default.
            The journal is not flushed, for a fair comparison: with oslo.messaging's defaults, RabbitMQ does not survive a loss of power.
    """
    options = {"socket_dir": str(_made(directory / "sockets")), "durable": "false"}
    journals = _made(directory / "journal") if journal else None
    if journal is not None:
        options["journal_dir"] = str(journals or "")
    return Transport("zenoh", "zenoh://", {"oslo_messaging_zenoh": options}, MODULES["zenoh"], journals)


def between_sites(directory: Path, site: str, listen: str, others: Sequence[str]) -> Transport:
    """Return Atoll's transport for a process in the network of a site, without a journal.

    Processes of one site reach each other by Unix sockets, and those of other sites by TCP without TLS.

    Args:
        directory: the experiment's own directory.
        site: the name of the site.
        listen: the address and port at which the process listens.
        others: the addresses and ports of the processes at other sites.
    """
    options = {"socket_dir": str(_made(directory / site)), "listen": f"tcp/{listen}", "durable": "false", "journal_dir": ""}
    return Transport("zenoh", f"zenoh://{','.join(others)}/", {"oslo_messaging_zenoh": options}, MODULES["zenoh"])


def rabbit(url: str) -> Transport:
    """Return RabbitMQ's transport with oslo.messaging's defaults.

    Args:
        url: the URL of the broker, with the account.
    """
    return Transport("rabbit", url, modules=MODULES["rabbit"])


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def open_transport(configuration: str) -> Any:
    """Return the RPC transport that a configuration file describes.

    Args:
        configuration: the path of a file from `Transport.write`.
    """
    from oslo_config import cfg
    from oslo_messaging import get_rpc_transport

    # Use the global configuration, because oslo.messaging registers some of its options only there.
    cfg.CONF([], project="atoll-bench", default_config_files=[configuration])
    return get_rpc_transport(cfg.CONF)
