"""The requirements of cells: a missing server, a missing broker or a missing disk is told before the first cell starts."""

import pytest

from atoll.bench import cell_requirements
from atoll.bench.cell_requirements import check
from atoll.bench.cells import Work
from atoll.errors import AtollError

SITE = {"name": "paris", "compute": "fake"}


def work(faults=(), rabbitmq="", **fields):
    return Work({"sites": [{**SITE, **fields}], "topology": {"preset": "mesh"}}, "list", {}, 1, faults, rabbitmq=rabbitmq)


def refused(*works):
    with pytest.raises(AtollError) as raised:
        check(works)
    assert "\n" not in raised.value.message
    return raised.value


def test_cells_without_requirements_are_accepted(monkeypatch):
    monkeypatch.setattr(cell_requirements.disks, "lacking", lambda _directory: pytest.fail("no disk is needed"))
    check([work(), work(faults=[{"kind": "cut"}])])


def test_a_server_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("atoll.services.engines.redis.installed", lambda: False)
    error = refused(work(), work(database={"start": "redis"}))
    assert (error.kind.code, error.message) == ("database.unavailable", "paris is to start redis, but redis-server is not installed")
    assert "apt-get install redis-server" in error.hint


def test_the_password_of_an_existing_server(tmp_path):
    database = {"url": "redis://me@localhost?socket=/run/redis.sock", "password_file": str(tmp_path / "no")}
    assert refused(work(database=database)).kind.code == "cloud.invalid"


def test_a_broker_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("atoll.bench.standard.servers._find", lambda _program: None)
    assert refused(work(rabbitmq="paris")).message == "the architecture `standard` needs rabbitmq-server from Debian's packages"


@pytest.mark.parametrize("kind", ["power-cut", "full-disk"])
def test_an_ordinary_user_has_no_disk(monkeypatch, kind):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    error = refused(work(faults=[{"kind": kind}]))
    assert error.kind.code == "bench.requirement"
    assert error.message == f"the faults {kind} need a file system on a loop device: only root can mount file systems"


def test_a_machine_without_loop_devices_has_no_disk(monkeypatch):
    monkeypatch.setattr(cell_requirements.disks, "lacking", lambda _directory: "no ext4 on a loop device: mount: no loop device")
    assert refused(work(faults=[{"kind": "full-disk"}])).message.endswith("loop device: no ext4 on a loop device: mount: no loop device")


def test_a_bus_needs_its_broker_and_root(monkeypatch):
    bus = Work({"sites": [{"name": "site-1"}]}, "rpc", {}, 1, rabbitmq="site-1", system="bus")
    members = Work({"sites": [{"name": "site-1"}], "links": {}}, "membership", {}, 1, system="hollow")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("atoll.bench.standard.servers._find", lambda _program: None)
    assert refused(members, bus).message == "the transport `rabbit` needs rabbitmq-server from Debian's packages"
    monkeypatch.setattr("atoll.bench.standard.servers._find", lambda program: program)
    check([members, bus])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert refused(bus).kind.code == "bench.requirement"
    check([members])
