from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from atoll.bench import workload
from atoll.bench.api import Answer, Api


class FakeApi(Api):
    """A cloud in memory. A server is ACTIVE after its status was read `looks` times."""

    def __init__(self, looks: int = 2) -> None:
        super().__init__("http://127.0.0.1:1/v3", "secret")
        self.looks = looks
        self.servers: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.most = 0
        self.broken: set[str] = set()
        self.ports: list[dict[str, Any]] = []
        self.allocations: dict[str, Any] = {}
        self.requests: list[tuple[str, str, str]] = []
        self._ids: Iterator[int] = count(1)

    def call(self, service: str, method: str, path: str, body: Any = None, data: bytes | None = None) -> Answer:
        self.requests.append((service, method, path))
        handler = getattr(self, f"_{service}_{method.lower()}")
        status, answer = handler(path, body)
        return Answer(status, answer, {})

    def status(self, server: str) -> str:
        if self.names[server] in self.broken:
            return "ERROR"
        return "ACTIVE" if self.servers[server] >= self.looks else "BUILD"

    def _compute_post(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/flavors":
            return 200, {"flavor": {"id": "new"}}
        server = f"server-{next(self._ids)}"
        self.servers[server] = 0
        self.names[server] = body["server"]["name"]
        self.most = max(self.most, sum(self.status(each) == "BUILD" for each in list(self.servers)))
        return 202, {"server": {"id": server}}

    def _compute_get(self, path: str, _body: Any) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        if path == "/flavors/detail":
            return 200, {"flavors": [{"id": "1", "ram": 64, "vcpus": 1, "disk": 1}]}
        if path in ("/servers", "/servers/detail"):
            wanted = query.removeprefix("status=") if query.startswith("status=") else ""
            for server in self.servers if wanted == "ACTIVE" else ():
                self.servers[server] += 1
            found = [server for server in self.servers if self.status(server) == (wanted or self.status(server))]
            return 200, {"servers": [{"id": server, "name": self.names[server]} for server in found]}
        server = path.rpartition("/")[2]
        if server not in self.servers:
            return 404, None
        self.servers[server] += 1
        return 200, {"server": {"name": self.names[server], "status": self.status(server), "fault": {"message": "No valid host"}}}

    def _compute_delete(self, path: str, _body: Any) -> tuple[int, Any]:
        known = self.servers.pop(path.rpartition("/")[2], None)
        return (404, None) if known is None else (204, None)

    def _image_post(self, _path: str, _body: Any) -> tuple[int, Any]:
        return 201, {"id": "image"}

    def _image_put(self, _path: str, _body: Any) -> tuple[int, Any]:
        return 204, None

    def _image_get(self, _path: str, _body: Any) -> tuple[int, Any]:
        return 200, {"images": []}

    def _network_post(self, path: str, _body: Any) -> tuple[int, Any]:
        return 201, {path.rpartition("/")[2].removesuffix("s"): {"id": "network"}}

    def _network_get(self, _path: str, _body: Any) -> tuple[int, Any]:
        return 200, {"ports": self.ports, "networks": []}

    def _network_delete(self, _path: str, _body: Any) -> tuple[int, Any]:
        return 204, None

    def _placement_get(self, path: str, _body: Any) -> tuple[int, Any]:
        if path.endswith("/allocations"):
            return 200, {"allocations": self.allocations}
        return 200, {"resource_providers": [{"uuid": "provider", "name": "site-1"}]}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.setattr(workload, "POLL_S", 0.001)
    return FakeApi()


@pytest.fixture
def tenancy() -> workload.Tenancy:
    return workload.Tenancy("image", "1", "network")
