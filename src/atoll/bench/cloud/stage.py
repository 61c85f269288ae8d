"""The cloud that is measured: full sites in a mesh of equal links, and clients inside each of them."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.bench.api import TIMEOUT_S, Api
from atoll.bench.command import atoll
from atoll.bench.measure import failed, wait_until
from atoll.cloud import Cloud, dump_cloud
from atoll.services import Settings
from atoll.site.state import State
from atoll.wan.client import Wan
from atoll.wan.isolation import within

JOINED_S = 120.0
"""Seconds that sites may take to see each other."""


class SiteApi(Api):
    """A client in the network of a site: each of its connections is opened there. It is for root alone."""

    def __init__(self, network: int, url: str, password: str) -> None:
        super().__init__(url, password)
        self._network = network

    def _connection(self, host: str, port: int) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        connection.sock = within(self._network, lambda: socket.create_connection((host, port), TIMEOUT_S))
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def connection(self, host: str, port: int) -> http.client.HTTPConnection:
        """A connection that its user keeps."""
        return self._connection(host, port)


@dataclass
class Stage:
    """A cloud that is up.

    Attributes:
        state: its state directory.
        names: of its sites.
        rtt_ms: between any two of them.
        environment: of commands.
        log: where commands write.
    """

    state: State
    names: tuple[str, ...]
    rtt_ms: float
    environment: Mapping[str, str]
    log: Path
    _apis: dict[str, SiteApi] = field(default_factory=dict)

    @property
    def delay_ms(self) -> float:
        """Of each link, one way."""
        return self.rtt_ms / 2

    @property
    def wan(self) -> Wan:
        """The network between the sites."""
        return Wan(self.state.root)

    def settings(self, site: str) -> Settings:
        """What the services of a site are told."""
        return Settings.load(self.state.site(site))

    def network(self, site: str) -> int:
        """A descriptor of a site's network, open until the process ends.

        Raises:
            AtollError: `bench.requirement`.
        """
        namespace = self.wan.namespace(site)
        if namespace.user is not None:
            raise failed("the clients of this experiment are in several networks at once: expected to be root", "run it as root")
        return os.open(namespace.network, os.O_RDONLY | os.O_CLOEXEC)

    def api(self, site: str) -> SiteApi:
        """The administrator of the cloud, at a site."""
        if site not in self._apis:
            settings = self.settings(site)
            self._apis[site] = SiteApi(self.network(site), settings.public_url("identity", "/v3"), settings.secrets["admin"])
            self._apis[site].sign_in()
        return self._apis[site]

    def each_link(self, changes: Mapping[str, Any]) -> None:
        """Change all links."""
        for number, first in enumerate(self.names):
            for second in self.names[number + 1 :]:
                self.wan.set(f"{first}:{second}", changes)

    def await_joined(self) -> None:
        """Wait until each site can ask every other: a list has no site missing."""
        for site in self.names:
            wait_until(lambda: self._complete(self.api(site)), f"{site} reaches all other sites", JOINED_S)  # noqa: B023

    def _complete(self, api: Api) -> bool:
        answer = api.call("compute", "GET", "/os-availability-zone")
        if not answer.ok or answer.headers.get("x-atoll-missing"):
            return False
        return {each["zoneName"] for each in answer.body["availabilityZoneInfo"]} >= set(self.names)


@contextmanager
def stage(root: Path, size: int, rtt_ms: float, environment: Mapping[str, str]) -> Iterator[Stage]:
    """Bring a cloud up, and destroy it in the end.

    Args:
        root: a directory of the experiment's own.
        size: how many sites.
        rtt_ms: between any two of them.
        environment: of the commands.
    """
    root.mkdir()
    state, file, log = State(root / "s"), root / "cloud.yaml", root / "commands.log"
    names = tuple(f"site-{number}" for number in range(1, size + 1))
    topology = {"preset": "mesh", "defaults": {"delay": f"{rtt_ms / 2}ms", "rate": "100mbit"}}
    sites = [{"name": name, "compute": "fake"} for name in names]
    file.write_text(dump_cloud(Cloud.model_validate({"name": "bench", "sites": sites, "topology": topology})))
    atoll(state, log, environment, "up", str(file))
    try:
        made = Stage(state, names, rtt_ms, environment, log)
        made.await_joined()
        yield made
    finally:
        atoll(state, log, environment, "destroy", "--yes")
