"""The process of the broker of a cell's regions, and the clients of users who reach servers through the broker."""

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
from atoll.bench.failure import failed
from atoll.bench.regions.broker import BrokerTask

_END_S = 10.0


class BrokeredApi(SiteApi):
    """A client in the network of a site; it uses that site's region directly, but reaches servers through the broker.

    Args:
        network: a descriptor of the site's network namespace.
        url: the URL of the region's identity API, with `/v3`.
        password: the password of the user's account in the region.
        servers: the URL at which the broker serves this region.
    """

    def __init__(self, network: int, url: str, password: str, servers: str) -> None:
        super().__init__(network, url, password)
        self._servers = servers

    def url(self, service: str, path: str) -> str:
        """Return the URL of a path of a service: at the broker for servers, at the region for everything else."""
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
    """Check that no site cooperates with another.

    Raises:
        AtollError: `bench.failed`: a site cooperates with another.
    """
    for site, api in apis.items():
        zones = {each["zoneName"] for each in api.expect("compute", "GET", "/os-availability-zone")["availabilityZoneInfo"]}
        if other := sorted(zones & set(apis) - {site}):
            raise failed(f"{site} cooperates with {', '.join(other)}: expected separate regions")
