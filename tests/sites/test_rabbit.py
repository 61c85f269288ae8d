"""A site and its compute site with RabbitMQ instead of Zenoh: the test's own node of Debian's package."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import until
from holdings import server

from atoll.bench import workload
from atoll.bench.standard.daemons import Daemons
from atoll.bench.standard.servers import RabbitMQ, check_packages
from atoll.errors import AtollError

PASSWORD = f"{secrets.token_hex(8)}@:{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def broker(tmp_path_factory, base_ports) -> Iterator[tuple[str, Path]]:
    """Run a broker, and yield its URL and the file with its password."""
    try:
        check_packages("this test", ["rabbitmq-server"])  # `make sites` installs it where it may
    except AtollError as error:
        pytest.skip(error.message)
    directory, port = tmp_path_factory.mktemp("rabbitmq"), next(base_ports)
    (directory / "log").mkdir()
    node = RabbitMQ(directory, (port, port + 1, port + 2), PASSWORD)
    node.configure()
    daemons = Daemons(directory / "log", {"PATH": os.environ["PATH"]})
    daemons.start(node.daemons())
    password = directory / "password"
    password.touch(mode=0o600)
    password.write_text(f"{PASSWORD}\n")

    def is_up() -> bool:
        daemons.check()
        return node.is_up()

    try:
        until(is_up, "RabbitMQ answers")
        yield f"rabbit://openstack@127.0.0.1:{port}/", password
    finally:
        daemons.stop()


def test_servers_boot_over_rabbitmq(make, base_ports, broker):
    url, password = broker
    cloud = make()
    rabbit = {"url": url, "password_file": str(password)}
    paris = {"name": "paris", "port": next(base_ports), "bus": "rabbit", "rabbit": rabbit}
    cloud.atoll("up", cloud.file(paris, {"name": "edge", "kind": "compute", "control": "paris"}))
    assert "paris/bus" not in cloud.pids(), "a site with RabbitMQ must run no router"
    api = cloud.api()
    tenancy = workload.prepare(api)
    for host in ("paris", "edge"):
        body = workload.server_body(tenancy, host)
        body["server"]["host"] = host
        made = api.expect("compute", "POST", "/servers", body)["server"]["id"]
        until(lambda made=made: server(api, made)["status"] != "BUILD", f"{host} built")
        found = server(api, made)
        assert (found["status"], found["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", host), found.get("fault")
        workload.delete(api, [made])
    logs = "".join(path.read_text(errors="replace") for path in cloud.root.rglob("*.log"))
    assert PASSWORD.partition("@")[0] not in logs
    cloud.atoll("destroy", "--yes")
