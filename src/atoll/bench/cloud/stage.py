"""The cloud that is measured: full sites in a mesh of equal links, and a client inside each of them."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from atoll.bench.api import TIMEOUT_S, Api
from atoll.bench.failure import failed
from atoll.bench.own_cloud import own_cloud
from atoll.bench.waiting import wait_until
from atoll.services import Settings
from atoll.site.state import State
from atoll.wan.client import Wan
from atoll.wan.isolation import within

JOINED_S = 120.0
"""Seconds to wait until sites see each other."""


class SiteApi(Api):
    """A client that opens each connection in the network of a site. Entering that network needs root.

    Args:
        network: a descriptor of the site's network namespace.
        url: the URL of the identity API, with `/v3`.
        password: the password of the cloud's administrator.
    """

    def __init__(self, network: int, url: str, password: str) -> None:
        super().__init__(url, password)
        self._network = network

    def _connection(self, host: str, port: int) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        connection.sock = within(self._network, lambda: socket.create_connection((host, port), TIMEOUT_S))
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def connection(self, host: str, port: int) -> http.client.HTTPConnection:
        """Return a new connection for several requests."""
        return self._connection(host, port)


@dataclass
class MeasuredCloud:
    """A running cloud to measure.

    Attributes:
        state: the state directory.
        names: the names of the sites.
        rtt_ms: the round trip between any two sites, in milliseconds.
        environment: the environment of commands.
        log: the file for the output of commands.
    """

    state: State
    names: tuple[str, ...]
    rtt_ms: float
    environment: Mapping[str, str]
    log: Path
    _apis: dict[str, SiteApi] = field(default_factory=dict)

    @property
    def delay_ms(self) -> float:
        """The one-way delay of each link in milliseconds."""
        return self.rtt_ms / 2

    @property
    def wan(self) -> Wan:
        """The emulated WAN between the sites."""
        return Wan(self.state.root)

    def settings(self, site: str) -> Settings:
        """Return the settings of a site's services."""
        return Settings.load(self.state.site(site))

    def network(self, site: str) -> int:
        """Return a descriptor of a site's network namespace, open until the process ends.

        Raises:
            AtollError: `bench.failed`: this process is not root.
        """
        namespace = self.wan.namespace(site)
        if namespace.user is not None:
            raise failed("the clients of this experiment enter the networks of several sites, which needs root", "run it as root")
        return os.open(namespace.network, os.O_RDONLY | os.O_CLOEXEC)

    def api(self, site: str) -> SiteApi:
        """Return a client at a site, signed in as the cloud's administrator."""
        if site not in self._apis:
            settings = self.settings(site)
            self._apis[site] = SiteApi(self.network(site), settings.public_url("identity", "/v3"), settings.secrets["admin"])
            self._apis[site].sign_in()
        return self._apis[site]

    def each_link(self, changes: Mapping[str, Any]) -> None:
        """Change the same properties of all links; `changes` are fields of `atoll.cloud.network.Wire`."""
        for number, first in enumerate(self.names):
            for second in self.names[number + 1 :]:
                self.wan.set(f"{first}:{second}", changes)

    def await_joined(self) -> None:
        """Wait until each site's lists include every other site."""
        for site in self.names:
            wait_until(partial(self._complete, self.api(site)), f"{site} reaches all other sites", JOINED_S)

    def _complete(self, api: Api) -> bool:
        answer = api.call("compute", "GET", "/os-availability-zone")
        if not answer.ok or answer.headers.get("x-atoll-missing"):
            return False
        return {each["zoneName"] for each in answer.body["availabilityZoneInfo"]} >= set(self.names)


@contextmanager
def measured_cloud(
    root: Path, size: int, rtt_ms: float, environment: Mapping[str, str], more: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[MeasuredCloud]:
    """Start a cloud, yield it, and destroy it when the context ends.

    Args:
        root: the experiment's own directory.
        size: the number of sites.
        rtt_ms: the round trip between any two sites, in milliseconds.
        environment: the environment of the commands.
        more: further fields of sites in the cloud's YAML, by the name of the site.
    """
    root.mkdir()
    names = tuple(f"site-{number}" for number in range(1, size + 1))
    topology = {"preset": "mesh", "defaults": {"delay": f"{rtt_ms / 2}ms", "rate": "100mbit"}}
    document = {
        "name": "bench",
        "sites": [{"name": name, "compute": "fake"} | dict((more or {}).get(name, {})) for name in names],
        "topology": topology,
    }
    with own_cloud(root, document, environment) as own:
        made = MeasuredCloud(own.state, names, rtt_ms, environment, own.log)
        made.await_joined()
        yield made
