import pytest

from atoll.bench import workload
from atoll.bench.api import Answer
from atoll.bench.leaks import count_leaks
from atoll.errors import AtollError


def test_prepare(api):
    tenancy = workload.prepare(api)
    assert tenancy == workload.Tenancy("image", "1", "network")
    assert ("image", "PUT", "/v2/images/image/file") in api.requests


def test_prepare_makes_a_flavor_where_none_fits(api, monkeypatch):
    monkeypatch.setattr(api, "_compute_get", lambda *_args: (200, {"flavors": [{"id": "9", "ram": 512, "vcpus": 1, "disk": 1}]}))
    assert workload.prepare(api).flavor == "new"


@pytest.mark.parametrize("lacks", ["", "network", "compute"])
def test_a_site_sees_a_tenancy_when_it_has_both_parts(tenancy, lacks):
    class Site:
        def call(self, service, _method, _path):
            return Answer(404 if service == lacks else 200, None, {})

    assert workload.sees(Site(), tenancy) == (not lacks)


def test_boot_watches_until_active(api, tenancy):
    server, seconds = workload.boot(api, tenancy, "one")
    assert api.servers[server] == api.looks
    assert seconds > 0


def test_boot_that_fails_says_why(api, tenancy):
    api.broken.add("one")
    with pytest.raises(AtollError, match="server one went to ERROR: No valid host"):
        workload.boot(api, tenancy, "one")


def test_boot_one_leaves_out_the_first_boot_and_deletes_each_server(api, tenancy):
    assert len(workload.boot_one(api, tenancy, 3)) == 3
    assert [method for _service, method, path in api.requests if path == "/servers"] == ["POST"] * 4
    assert api.servers == {}


def test_boot_many_keeps_to_the_limit(api, tenancy):
    assert workload.boot_many(api, tenancy, 9, 3) > 0
    assert (len(api.servers), api.most <= 3) == (9, True)


def test_boot_many_ends_when_one_fails(api, tenancy):
    api.broken.add("many-4")
    with pytest.raises(AtollError, match="server many-4 went to ERROR: No valid host"):
        workload.boot_many(api, tenancy, 6, 3)


def test_boot_many_ends_when_the_api_does(api, tenancy, monkeypatch):
    monkeypatch.setattr(api, "_compute_get", lambda *_args: (500, {}))
    with pytest.raises(AtollError, match="HTTP 500"):
        workload.boot_many(api, tenancy, 2, 2)


def test_boot_many_gives_up_on_one_that_never_comes(api, tenancy, monkeypatch):
    monkeypatch.setattr(workload, "BOOT_TIMEOUT_S", 0.02)
    api.looks = 10**6
    with pytest.raises(AtollError, match="is not ACTIVE after"):
        workload.boot_many(api, tenancy, 1, 1)


def test_delete_all(api, tenancy):
    workload.boot_many(api, tenancy, 4, 2)
    workload.delete_all(api, 2)
    assert not count_leaks(api, 0).any


def test_delete_of_what_has_gone_already(api):
    workload.delete(api, ["nothing"])


def test_delete_that_is_refused(api, monkeypatch):
    monkeypatch.setattr(api, "_compute_delete", lambda *_args: (409, None))
    with pytest.raises(AtollError, match="DELETE /servers/x: HTTP 409"):
        workload.delete(api, ["x"])


def test_leaks_are_counted(api, tenancy):
    workload.create(api, tenancy, "left")
    api.ports = [{"device_owner": "compute:nova"}, {"device_owner": "network:router_interface"}]
    api.allocations = {"a": {}, "b": {}}
    found = count_leaks(api, 0)
    assert found.to_json() == {"leaked_servers": 1, "leaked_ports": 1, "leaked_allocations": 2}
