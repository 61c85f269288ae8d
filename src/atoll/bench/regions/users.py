"""The broker of a cell's regions as a process, and the users who reach servers through it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from atoll.bench.api import Api
from atoll.bench.cloud.stage import MeasuredCloud, SiteApi
from atoll.bench.measure import failed
from atoll.bench.regions.broker import BrokerTask

_END_S = 10.0


class BrokeredApi(SiteApi):
    """A client of the region of its site, which reaches servers through the broker.

    Args:
        network: the network namespace of its site.
        url: the URL of the identity API of its region, with `/v3`.
        password: the password of its account in its region.
        servers: the URL of the broker for this region.
    """

    def __init__(self, network: int, url: str, password: str, servers: str) -> None:
        super().__init__(network, url, password)
        self._servers = servers

    def url(self, service: str, path: str) -> str:
        """Return the URL of a path of a service: for servers that of the broker, for everything else that of the region."""
        return self._servers + path if service == "compute" and path.startswith("/servers") else super().url(service, path)


@contextmanager
def brokered(made: MeasuredCloud, ask: str) -> Iterator[dict[str, Api]]:
    """Run the broker at the first site of a cloud, and yield the user of each site.

    Args:
        made: the running cloud, whose sites do not cooperate.
        ask: the order in which the broker asks the regions, "parallel" or "serial".

    Raises:
        AtollError: `bench.failed`: the broker did not start, or the sites cooperate.
    """
    first, secret = made.names[0], secrets.token_urlsafe(16)
    settings = {site: made.settings(site) for site in made.names}
    apis = {site: made.api(site) for site in made.names}
    regions = {site: (settings[site].public_url("identity", "/v3"), apis[site].credentials()) for site in made.names}
    _check_alone(apis)
    host = made.wan.addresses[first]
    words = [sys.executable, "-m", "atoll.bench.regions.broker"]
    with made.log.open("ab") as log:
        process = made.wan.popen(first, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=dict(made.environment))
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(BrokerTask(host, secret, ask, regions))).encode())
            process.stdin.close()
        port = process.stdout.readline().strip()
        if not port.isdigit():
            raise failed(f"the broker did not start: see {made.log}")
        yield {site: _user(made, site, f"http://{host}:{int(port)}/{secret}/{site}") for site in made.names}
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _user(made: MeasuredCloud, site: str, servers: str) -> Api:
    settings = made.settings(site)
    api = BrokeredApi(made.network(site), settings.public_url("identity", "/v3"), settings.secrets["admin"], servers)
    api.sign_in()
    return api


def _check_alone(apis: dict[str, SiteApi]) -> None:
    """Check that each site knows only itself.

    Raises:
        AtollError: `bench.failed`: a site cooperates with another.
    """
    for site, api in apis.items():
        zones = {each["zoneName"] for each in api.expect("compute", "GET", "/os-availability-zone")["availabilityZoneInfo"]}
        if other := sorted(zones & set(apis) - {site}):
            raise failed(f"{site} cooperates with {', '.join(other)}: expected regions that do not")
