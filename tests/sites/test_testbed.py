"""A cloud on hosts that EnOSlib's static provider gives: network namespaces with SSH servers, which share this machine's file system."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from deployment import Deployment, await_exit
from testbed_hosts import SSHD, NamespaceHosts, wrapper

from atoll.errors import AtollError
from atoll.site.state import default_cache
from atoll.testbed import environment
from atoll.testbed.document import read_provider
from atoll.testbed.provider import Provider

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0 or not Path(SSHD).exists(), reason="needs root, and Debian's openssh-server"),
]

DELAY_MS = 20


@pytest.fixture(scope="module")
def enoslib() -> Path:
    """Install EnOSlib, because the hosts' network has no package index."""
    return environment.python(default_cache(), print)


@pytest.fixture
def hosts(enoslib, request, tmp_path_factory) -> Iterator[NamespaceHosts]:
    """Yield two hosts; the parameter of the test has their names."""
    directory = tmp_path_factory.mktemp("hosts")
    try:
        made = NamespaceHosts.start(directory, *request.param)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network of hosts can be made here: {error}")
    yield made
    made.close()


def write(hosts: NamespaceHosts, **changes: object) -> Path:
    document = {"provider": "static", "configuration": hosts.configuration(), "directory": f"{hosts.directory}/sites/{{site}}"}
    document["atoll"] = str(wrapper(hosts.directory))
    path = hosts.directory / "hosts.yaml"
    path.write_text(yaml.safe_dump(document | changes, sort_keys=False))
    return path


def states(cloud: Deployment) -> dict[str, str]:
    return {site["name"]: site["state"] for site in json.loads(cloud.atoll("status", "--json"))["sites"]}


@pytest.mark.parametrize("hosts", [("paris", "lyon")], indirect=True, ids=["two"])
def test_cloud_on_hosts(hosts, tmp_path):
    cloud = Deployment(tmp_path / "state", before=hosts.prefix)
    provider = f"enoslib:{write(hosts)}"
    file = cloud.file({"name": "paris", "compute": "fake"}, {"name": "lyon", "compute": "fake"})
    hosts.stop_server("lyon")
    failed = cloud.run("up", file, "--provider", provider)
    assert failed.returncode == 1
    assert "error: the host of lyon (10.99.0.2) can't be reached: ssh: connect to host" in failed.stderr
    hosts.start_server("lyon")
    try:
        assert "10.99.0.2" in cloud.atoll("up", file, "--provider", provider)
        assert states(cloud) == {"paris": "up", "lyon": "up"}
        boots_a_server_elsewhere(cloud, tmp_path)
        links_are_constrained(cloud, hosts)
        cloud.atoll("down", "lyon")
        assert states(cloud) == {"paris": "up", "lyon": "stopped"}
        cloud.atoll("up", file)
        assert states(cloud) == {"paris": "up", "lyon": "up"}
        assert "qdisc htb" not in hosts.run("lyon", "tc", "qdisc", "show"), "without a topology, there are no constraints"
    finally:
        running = processes(hosts)
        cloud.atoll("destroy", "--yes")
    await_exit(running)
    assert not cloud.root.exists()
    assert not list((hosts.directory / "sites").glob("*/state"))


@pytest.mark.parametrize("hosts", [("site-1", "site-2")], indirect=True, ids=["two"])
def test_experiment_on_hosts(hosts, tmp_path):
    file = tmp_path / "near.yaml"
    file.write_text("name: near\nrepetitions: 1\narchitectures: [{kind: cooperative, sites: 2}]\nworkloads: {boot: {times: 1}}\n")
    cloud = Deployment(tmp_path / "state", {"ATOLL_EXPERIMENTS": str(tmp_path / "runs")}, hosts.prefix)
    done = cloud.run("experiment", "run", file, "--provider", f"enoslib:{write(hosts)}")
    assert done.returncode == 0, done.stderr
    shown = json.loads(cloud.atoll("experiment", "show", "near", "--json"))
    assert "done" in json.dumps(shown)
    assert list((tmp_path / "runs").glob("near-*/samples/*.parquet"))
    assert not (tmp_path / "runs" / ".testbed").exists(), "the hosts were released"
    assert not list((hosts.directory / "sites").glob("*/state"))


def processes(hosts: NamespaceHosts) -> list[psutil.Process]:
    """Return the supervisors of the sites."""
    return [each for each in psutil.process_iter() if str(hosts.directory / "sites") in " ".join(each.cmdline())]


def boots_a_server_elsewhere(cloud: Deployment, directory: Path) -> None:
    """Boot a server at lyon through paris, with the unmodified client and the local clouds.yaml."""
    disk = directory / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    client = [*cloud.before, Path(sys.executable).with_name("openstack"), "--os-cloud", "paris"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    own |= {"OS_CLIENT_CONFIG_FILE": str(cloud.root / "clouds.yaml")}

    def call(*words: str) -> str:
        return subprocess.run([*client, *words, "-f", "json"], check=True, capture_output=True, text=True, env=own).stdout

    call("image", "create", "demo", "--file", str(disk), "--disk-format", "raw", "--container-format", "bare", "--public")
    call("network", "create", "net")
    call("subnet", "create", "subnet", "--network", "net", "--subnet-range", "10.0.0.0/24")
    words = ("--image", "demo", "--flavor", "m1.tiny", "--network", "net", "--availability-zone", "lyon", "--wait")
    assert json.loads(call("server", "create", "one", *words))["status"] == "ACTIVE"


def links_are_constrained(cloud: Deployment, hosts: NamespaceHosts) -> None:
    """Apply a topology: its round trip is measured if the kernel has netem, and otherwise the missing queues are noticed."""
    sites = ({"name": "paris", "compute": "fake"}, {"name": "lyon", "compute": "fake"})
    file = cloud.file(*sites, topology={"preset": "mesh", "defaults": {"delay": f"{DELAY_MS}ms"}})
    done = cloud.run("up", file)
    plain = cloud.file(*sites)
    assert plain == file, "the later steps use the file without a topology"
    assert "qdisc htb 1: " in hosts.run("paris", "tc", "qdisc", "show"), "EnOSlib's service has set its root"
    if done.returncode == 0:
        times = re.findall(r"time=([\d.]+)", hosts.run("paris", "ping", "-c", "5", "-i", "0.2", hosts.address("lyon")))
        assert min(map(float, times)) == pytest.approx(2 * DELAY_MS, abs=5)
    else:
        assert "has 0 of netem's queues instead of 1" in done.stderr
        assert "CONFIG_NET_SCH_NETEM" in done.stderr


MACHINES = {
    "vagrant": {"roles": ["sites"], "flavour": "medium", "number": 3},
    "chameleonkvm": {"roles": ["sites"], "flavour": "m1.medium", "number": 3},
    "chameleonbaremetal": {"roles": ["sites"], "flavour": "compute_skylake", "number": 3},
}
REST = {
    "vagrant": {"backend": "libvirt", "box": "generic/debian12"},
    "chameleonkvm": {"key_name": "mine", "image": "debian", "user": "debian"},
    "chameleonbaremetal": {"key_name": "mine", "image": "debian", "user": "debian", "lease_name": "atoll"},
}


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_enoslib_validates_configurations(enoslib, name, tmp_path):
    networks = [{"roles": ["wan"], "cidr": "192.168.42.0/24"}] if name == "vagrant" else ["wan"]
    machine = dict(MACHINES[name])
    configuration = {**REST[name], "resources": {"machines": [machine], "networks": networks}}
    path = tmp_path / "hosts.yaml"

    def validate() -> None:
        path.write_text(yaml.safe_dump({"provider": name, "configuration": configuration}, sort_keys=False))
        Provider(path, read_provider(path), tmp_path, default_cache(), print).validate()

    validate()
    machine["number"] = "three"
    with pytest.raises(AtollError, match=r"hosts.yaml:\d+: configuration.resources.machines.*'three'") as caught:
        validate()
    assert caught.value.kind.code == "testbed.invalid"
