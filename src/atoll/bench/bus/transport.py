"""Which transports are measured, and how each is configured: the one place that knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOPIC = "bench"
"""What all servers of an experiment listen to."""

_OURS = ("atoll.bus.driver",)
_RABBIT = ("oslo_messaging._drivers.impl_rabbit", "kombu.transport.pyamqp")


@dataclass(frozen=True)
class Transport:
    """A transport of oslo.messaging, as a service's configuration file would name it.

    Attributes:
        name: its scheme.
        url: of `transport_url`.
        options: further options, by group.
        modules: what all processes import that use it, before they are forked.
        journals: where servers keep on the disk what they acknowledged and have not begun; None: they don't, or it is not known where.
    """

    name: str
    url: str
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    journals: Path | None = None

    def write(self, path: Path) -> None:
        """Write the configuration file; it may have a password in it, so it is its owner's alone."""
        sections: dict[str, dict[str, str]] = {"DEFAULT": {"transport_url": self.url}}
        for group, options in self.options.items():
            sections.setdefault(group, {}).update(options)
        lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()) for group, options in sections.items()]
        path.touch(mode=0o600)
        path.write_text("\n".join(lines), encoding="utf-8")


def zenoh(directory: Path, *, journal: bool | None = None) -> Transport:
    """Ours, among peers on this machine.

    Args:
        directory: of the experiment's own: sockets and journals go there.
        journal: whether servers keep on the disk what they acknowledged and have not begun; None: what the driver does by default.
            It is not flushed: what is compared with it, RabbitMQ with oslo.messaging's defaults, does not survive a loss of power either.
    """
    options = {"socket_dir": str(_made(directory / "sockets")), "durable": "false"}
    journals = _made(directory / "journal") if journal else None
    if journal is not None:
        options["journal_dir"] = str(journals or "")
    return Transport("zenoh", "zenoh://", {"oslo_messaging_zenoh": options}, _OURS, journals)


def rabbit(url: str) -> Transport:
    """RabbitMQ, with oslo.messaging's defaults.

    Args:
        url: of the broker, with the account.
    """
    return Transport("rabbit", url, modules=_RABBIT)


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def open_transport(configuration: str) -> Any:  # noqa: ANN401, RUF100 - oslo.messaging has no types
    """The RPC transport that a configuration file asks for.

    Args:
        configuration: the path of a file from `Transport.write`.
    """
    from oslo_config import cfg  # noqa: PLC0415 - only the workers need it, and it takes a second
    from oslo_messaging import get_rpc_transport  # noqa: PLC0415

    # The global one: oslo.messaging registers some of its options only there.
    cfg.CONF([], project="atoll-bench", default_config_files=[configuration])
    return get_rpc_transport(cfg.CONF)
