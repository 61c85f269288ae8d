"""Removal of a compute site from its control site, with a double of Nova's API."""

import re
from dataclasses import replace

import pytest
from keystoneauth1.exceptions import ConnectFailure

from atoll.errors import AtollError
from atoll.services import Settings
from atoll.services.keystone.bootstrap import endpoints_of
from atoll.site import departure
from atoll.site.departure import depart

URL = "http://127.0.0.1:15004/v2.1"


class Nova:
    """A double of Nova's API: the services and servers of one host, and the requests received."""

    def __init__(self, servers: int, services: int = 1, *, stubborn: bool = False) -> None:
        self.servers = {f"server-{number}" for number in range(servers)}
        self.services = [f"service-{number}" for number in range(services)]
        self.stubborn = stubborn
        self.asked: list[str] = []

    def get(self, url: str, headers: dict[str, str]):
        assert headers == {"OpenStack-API-Version": "compute 2.53"}
        found = self.services if "os-services" in url else sorted(self.servers)
        assert re.search("[?&]host=edge(&|$)", url)
        key = "services" if "os-services" in url else "servers"
        return Answer({key: [{"id": name} for name in found]})

    def put(self, url: str, json, headers) -> None:
        assert json == {"forced_down": True}
        self.asked.append(f"down {url.removeprefix(URL)}")

    def delete(self, url: str, headers, *, raise_exc: bool = True) -> None:
        self.asked.append(f"delete {url.removeprefix(URL)}")
        if not self.stubborn:
            self.servers.discard(url.rpartition("/")[2])


class Answer:
    def __init__(self, data) -> None:
        self._data = data

    def json(self):
        return self._data


@pytest.fixture
def control(tmp_path) -> Settings:
    return Settings("paris", tmp_path, tmp_path, "127.0.0.1", {"identity": 15000, "compute": 15004}, {"admin": "x"})


def test_service_goes_after_its_servers_and_they_after_it_was_declared_down(control):
    nova = Nova(servers=2)
    depart(control, "edge", nova, lambda _seconds: None)
    first, *servers, last = nova.asked
    assert (first, sorted(servers), last) == (
        "down /os-services/service-0",
        ["delete /servers/server-0", "delete /servers/server-1"],
        "delete /os-services/service-0",
    )


def test_site_that_was_never_up_leaves_nothing_to_do(control):
    nova = Nova(servers=0, services=0)
    depart(control, "edge", nova)
    assert nova.asked == []


def test_each_server_is_deleted_once_and_patience_ends(control, monkeypatch):
    nova, clock = Nova(servers=1, stubborn=True), [0.0]
    monkeypatch.setattr(departure.time, "monotonic", lambda: clock[0])

    def sleep(_seconds: float) -> None:
        clock[0] += 25.0

    with pytest.raises(
        AtollError, match="paris, the control site of edge, has not removed it: 1 servers of edge are still there"
    ) as caught:
        depart(control, "edge", nova, sleep)
    assert caught.value.kind.code == "site.failed"
    assert nova.asked == ["down /os-services/service-0", "delete /servers/server-0"]


def test_control_site_that_does_not_answer(control):
    class Silent(Nova):
        def get(self, url: str, headers: dict[str, str]):
            raise ConnectFailure("no route\nat all")

    with pytest.raises(AtollError, match=r"has not removed it: no route$"):
        depart(control, "edge", Silent(servers=0))


class SharedCloud(Nova):
    """Nova and Keystone of two sites, paris and edge."""

    def get(self, url: str, headers: dict[str, str] | None = None):
        if url.endswith("/os-aggregates"):
            return Answer({"aggregates": [{"id": 1, "name": "edge", "hosts": []}, {"id": 2, "name": "paris", "hosts": ["paris"]}]})
        if url.endswith("/v3/endpoints"):
            return Answer({"endpoints": [{"id": endpoints_of(site)[0]} for site in ("paris", "edge")]})
        return super().get(url, headers or {})

    def delete(self, url: str, headers: dict[str, str] | None = None, *, raise_exc: bool = True) -> None:
        super().delete(url, headers, raise_exc=raise_exc)


def test_a_site_takes_its_zone_and_its_endpoints_out_of_a_shared_cloud_and_no_others(control):
    nova = SharedCloud(servers=0)
    depart(replace(control, sharing={"paris": "", "edge": ""}), "edge", nova)
    assert [path for path in nova.asked if "os-aggregates" in path or "endpoints" in path] == [
        "delete /os-aggregates/1",
        f"delete http://127.0.0.1:15000/v3/endpoints/{endpoints_of('edge')[0]}",
    ]
