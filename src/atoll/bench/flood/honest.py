"""Honest clients: one at each site, signed in, that makes one request after the other and records the latencies."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from atoll.bench.cloud.stage import MeasuredCloud, SiteApi

PAUSE_S = 0.02
"""Seconds between an answer and the next request."""

NEW_EVERY = 5
"""Number of requests after which a client opens a new connection."""

PATHS = (("compute", "/v2.1/flavors"), ("network", "/v2.0/networks"), ("image", "/v2/images"), ("compute", "/v2.1/servers/detail"))


class HonestClient:
    """An honest client of one site.

    Args:
        cloud: the cloud that is measured.
        site: the name of the site.
        pause_s: seconds between an answer and the next request.
    """

    def __init__(self, cloud: MeasuredCloud, site: str, pause_s: float = PAUSE_S) -> None:
        self._api: SiteApi = cloud.api(site)
        settings = cloud.settings(site)
        self._address = settings.host, settings.ports["gateway"]
        self._paths = cycle([urlsplit(settings.public_url(service, path)).path for service, path in PATHS])
        self._pause_s = pause_s
        self.samples: list[float] = []
        self.failed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the client's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the client's thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        number = 0
        while not self._stop.is_set():
            if number % NEW_EVERY == 0 and connection is not None:
                connection.close()
                connection = None
            number += 1
            begun = time.perf_counter()
            try:
                if connection is None:
                    connection = self._api.connection(*self._address)
                connection.request("GET", next(self._paths), headers={"X-Auth-Token": self._api.token})
                answer = connection.getresponse()
                answer.read()
                good = answer.status == 200
            except (OSError, http.client.HTTPException):
                good, connection = False, None
            self.samples.append((time.perf_counter() - begun) * 1000)
            self.failed += not good
            self._stop.wait(self._pause_s)


@contextmanager
def asking(cloud: MeasuredCloud) -> Iterator[Mapping[str, HonestClient]]:
    """Run a client at each site while the context lasts; yield the clients by site."""
    clients = {site: HonestClient(cloud, site) for site in cloud.names}
    for client in clients.values():
        client.start()
    try:
        yield clients
    finally:
        for client in clients.values():
            client.stop()


def quantiles(samples: list[float]) -> dict[str, Any]:
    """Return the median and the 99th percentile, in milliseconds."""
    if len(samples) < 2:
        return {"p50_ms": None, "p99_ms": None, "requests": len(samples)}
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2), "requests": len(samples)}
