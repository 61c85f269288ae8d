"""The address of a bus, `zenoh://[host:port[,host:port…]]/[vhost]`, read from oslo.messaging's transport URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oslo_messaging import InvalidTransportURL

DEFAULT_PORT = 7447
"""The TCP port registered for Zenoh."""


@dataclass(frozen=True)
class Address:
    """The endpoints of a bus and its virtual host, which keeps clouds apart.

    Attributes:
        endpoints: the routers to connect to, as `host:port`; empty if all peers are on this machine.
        vhost: the virtual host.
    """

    endpoints: tuple[str, ...]
    vhost: str

    @classmethod
    def from_url(cls, url: Any) -> Address:
        """Return the address in an `oslo_messaging.TransportURL`.

        Raises:
            InvalidTransportURL: the URL has a part that this driver does not support.
        """
        if url.query:
            raise InvalidTransportURL(_masked(url), "zenoh:// takes no ?query; options are in [oslo_messaging_zenoh]")
        return cls(tuple(_endpoint(url, host) for host in url.hosts if _is_not_empty(host)), url.virtual_host or "")


def _is_not_empty(host: Any) -> bool:
    """Return whether a host of the URL is not empty: `zenoh:///vhost` is parsed into one empty host."""
    return any((host.hostname, host.port is not None, host.username, host.password))


def _endpoint(url: Any, host: Any) -> str:
    if host.username or host.password:
        raise InvalidTransportURL(_masked(url), "zenoh:// knows no user and password; use TLS with client certificates (tls_cert_file)")
    if not host.hostname:
        raise InvalidTransportURL(_masked(url), f"port {host.port} without a host; expected host:port")
    port = DEFAULT_PORT if host.port is None else host.port
    if not 0 < port < 65536:
        raise InvalidTransportURL(_masked(url), f"port {port} of {host.hostname} is not between 1 and 65535")
    name = f"[{host.hostname}]" if ":" in host.hostname else host.hostname
    return f"{name}:{port}"


def _masked(url: Any) -> str:
    """Return the URL without user names and passwords, for error messages that end up in logs."""
    hosts = ",".join(f"{host.hostname or ''}:{host.port or ''}" for host in url.hosts)
    return f"{url.transport}://{hosts}/{url.virtual_host or ''}"
