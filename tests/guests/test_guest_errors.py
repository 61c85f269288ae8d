"""Errors with guests: each is reported in one clear line, and leaves no partial resources."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from deployment import Deployment, kill, until
from landscape import FLAVOR, PATIENCE_S, Guest, Landscape
from plugged import Switch

from atoll.bench.workspace import free_ports
from atoll.site import guests
from atoll.wan.isolation import within

PAUSED = 3
"""Nova's power state of a paused guest."""

LIBVIRT = {"name": "paris", "compute": "libvirt"}


@contextmanager
def file_system(directory: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a small file system, and yield its directory."""
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}M,mode=0700", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def fresh(tmp_path_factory) -> Iterator[Deployment]:
    """Yield a cloud that was never up, at a path that is short enough for sockets."""
    cloud = Deployment(tmp_path_factory.mktemp("fresh") / "state")
    yield cloud
    assert not cloud.root.exists(), "the refused command must create no files"


@pytest.mark.parametrize(
    ("program", "network", "package"),
    [
        ("qemu-system-x86_64", "ovn", "qemu-system-x86"),
        ("libvirtd", "ovn", "libvirt-daemon-system"),
        ("ovn-controller", "ovn", "ovn-host"),
        ("ovs-vswitchd", "ovn", "openvswitch-switch"),
        ("dnsmasq", "ovs", "dnsmasq-base"),
    ],
)
def test_package_that_is_missing(fresh, program, network, package):
    fresh.before = ("unshare", "--mount", "sh", "-c", f'mount --bind /dev/null {shutil.which(program)} && exec "$0" "$@"')
    done = fresh.run("up", fresh.file(LIBVIRT | {"network": network}))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: paris is to run guests, but not installed: {program}\nhint: apt-get install {package}\n"


@pytest.mark.parametrize("capabilities", [["CAP_SYS_ADMIN"], ["CAP_NET_ADMIN", "CAP_NET_RAW"]])
def test_capability_that_is_missing(fresh, capabilities):
    bounds = ",".join(f"-{name.removeprefix('CAP_').lower()}" for name in capabilities)
    fresh.before = ("setpriv", f"--bounding-set={bounds}", "--inh-caps=-all")
    message = fresh.refused("up", fresh.file(LIBVIRT))
    assert message.startswith(f"paris is to run guests, but root lacks {', '.join(capabilities)} here: ")


@pytest.mark.parametrize(
    ("away", "feature"),
    [
        ("mount --bind /dev/null /dev/net/tun", "TAP devices (/dev/net/tun)"),
        ("mount -t tmpfs tmpfs /dev/net", "TAP devices (/dev/net/tun)"),
    ],
)
def test_feature_that_is_missing(fresh, away, feature):
    fresh.before = ("unshare", "--mount", "sh", "-c", f'{away} && exec "$0" "$@"')
    message = fresh.refused("up", fresh.file(LIBVIRT))
    assert message.startswith(f"paris is to run guests, but this machine has no {feature}: ")


def test_programs_are_found_though_the_path_lacks_their_directories(fresh):
    """After `su`, root has the search path of an ordinary user."""
    fresh.environment["PATH"] = "/usr/bin:/bin"
    fresh.before = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/net/tun && exec "$0" "$@"')
    assert "/dev/net/tun" in fresh.refused("up", fresh.file(LIBVIRT))


def test_port_of_a_site_with_guests_that_is_taken(fresh):
    (port,) = free_ports(1)  # the ports that follow are free too
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        message = fresh.refused("up", fresh.file(LIBVIRT | {"port": port}))
    assert message.startswith(f"port {port} of paris/")
    assert f"is in use by pid {os.getpid()} " in message


def test_state_directory_that_is_full(tmp_path_factory):
    with file_system(tmp_path_factory.mktemp("full"), 100) as small:
        cloud = Deployment(small / "state")
        message = cloud.refused("up", cloud.file(LIBVIRT))
        assert re.fullmatch(rf"{cloud.root}: 10\d MB free: expected at least \d+ MB", message)
        assert sorted(path.name for path in small.iterdir()) == ["state.yaml"]


class Site:
    """The traces of servers at a site, none of which may be left of a server that could not start."""

    def __init__(self, landscape: Landscape, switch: Switch) -> None:
        self._landscape, self._switch = landscape, switch
        self.instances = landscape.settings.data / "instances"

    def holdings(self) -> dict[str, set[str]]:
        """Return the current machines, files and ports."""
        return {
            "machines": {guest.name for guest in guests.running(self._landscape.settings.directory)},
            "files": set(self._files()),
            "interfaces": set(self._switch.tool("ovs-vsctl", "list-ports", "br-int").split()),
            "ports": {port["id"] for port in self._landscape.api.expect("network", "GET", "/v2.0/ports")["ports"]},
        }

    def fails(self, **fields: object) -> str:
        """Return the reason why a server cannot start, and delete it."""
        api, before = self._landscape.api, self.holdings()
        body = {"name": "hopeless", "imageRef": self._landscape.image, "flavorRef": FLAVOR, "networks": [{"uuid": self._landscape.network}]}
        server = api.expect("compute", "POST", "/servers", {"server": body | fields})["server"]["id"]
        guest = Guest(self._landscape, server, "hopeless", "")
        guest.await_status("ERROR")
        until(lambda: api.expect("placement", "GET", f"/allocations/{server}")["allocations"] == {}, "no allocation", PATIENCE_S)
        # The network's first metadata proxy may have been started for it, and ends later.
        until(lambda: self._left(before) == {}, f"nothing left of it: {self._left(before)}", PATIENCE_S)
        message = str(guest.show()["fault"]["message"])
        assert "\n" not in message
        guest.delete()
        return message

    def _files(self) -> Iterator[str]:
        """Yield the files of guests and images, without locks."""
        for path in self.instances.rglob("*"):
            place = path.relative_to(self.instances)
            if place.parts[0] != "locks" and place.parts != ("_base",):
                yield str(place)

    def _left(self, before: dict[str, set[str]]) -> dict[str, set[str]]:
        now = self.holdings()
        return {kind: now[kind] - before[kind] for kind in now if now[kind] - before[kind]}


@pytest.fixture
def site(cloud, paris) -> Site:
    return Site(paris, Switch(cloud, "paris"))


@contextmanager
def image(landscape: Landscape, content: bytes, **fields: str) -> Iterator[str]:
    made = {"name": "broken", "disk_format": "raw", "container_format": "bare"} | fields
    identifier = landscape.api.expect("image", "POST", "/v2/images", made)["id"]
    answer = landscape.api.call("image", "PUT", f"/v2/images/{identifier}/file", data=content)
    assert answer.ok, answer
    try:
        yield identifier
    finally:
        landscape.api.call("image", "DELETE", f"/v2/images/{identifier}")


def test_image_that_is_not_what_it_is_said_to_be_is_refused_by_glance(paris):
    identifier = paris.api.expect("image", "POST", "/v2/images", {"name": "no", "disk_format": "qcow2", "container_format": "bare"})["id"]
    answer = paris.api.call("image", "PUT", f"/v2/images/{identifier}/file", data=os.urandom(100_000))
    assert answer.status == 415
    paris.api.call("image", "DELETE", f"/v2/images/{identifier}")


def test_image_that_is_cut_short(paris, site, tmp_path):
    """QEMU would accept the image, and read zeros beyond its end."""
    whole = tmp_path / "whole.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", whole, "64M"], check=True)
    with image(paris, whole.read_bytes()[:1_000_000], disk_format="qcow2") as broken:
        assert "aborted: the image is broken, or was cut short: qemu-img: " in site.fails(imageRef=broken)


def test_disk_that_is_full(cloud, paris, site):
    """The disk is full before a guest's start and while its image is fetched; later guests start again."""
    with disk_of_guests(cloud, paris, site.instances) as small:
        filler = small / "filler"
        fill(filler, leaving=80)
        assert re.search(r"aborted: the disk is full: 8\d MB free in ", site.fails())
        filler.unlink()
        fill(filler, leaving=150)
        with image(paris, os.urandom(220 * 2**20)) as large:
            assert "aborted: the disk is full: " in site.fails(imageRef=large)
        filler.unlink()
        goes_on_where_it_was(paris, filler)


@contextmanager
def disk_of_guests(cloud: Deployment, landscape: Landscape, instances: Path) -> Iterator[Path]:
    """Mount a file system for guests alone. Libvirt has its own mounts, so it is restarted to see the change."""
    try:
        with file_system(instances, 1100) as small:  # Placement ignores less than a GiB
            kill_libvirt(cloud, landscape)
            yield small
    finally:
        kill_libvirt(cloud, landscape)


def fill(filler: Path, leaving: int) -> None:
    """Fill a file system except for `leaving` MiB."""
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free - leaving * 2**20)


def kill_libvirt(cloud: Deployment, landscape: Landscape) -> None:
    """Kill libvirt, and wait until Nova uses its successor."""
    before = cloud.pids()["paris/libvirt"]
    kill(before)
    until(lambda: cloud.pids().get("paris/libvirt", before) != before, "another libvirt", PATIENCE_S)
    until(lambda: cloud.processes()["paris/libvirt"].state == "ready", "libvirt", PATIENCE_S)

    # By then Nova has noticed the end of the previous one.
    until(lambda: _clients(cloud.pids()["paris/libvirt"]), "a connection", 15)

    def enabled() -> bool:
        services = landscape.api.expect("compute", "GET", "/os-services?binary=nova-compute")["services"]
        return {service["host"]: service["status"] for service in services}[landscape.site] == "enabled"

    until(enabled, "Nova's service", 15)


def _clients(libvirt: int) -> int:
    """Return the number of libvirt's connections, without its listening socket."""
    return sum(str(each.laddr).endswith("/libvirt-sock") for each in psutil.Process(libvirt).net_connections("unix")) - 1


WRITES = """#!/bin/sh
sleep 20
dd if=/dev/urandom of=/disk/large bs=64k count=40 conv=fsync && echo written: all
"""


def goes_on_where_it_was(landscape: Landscape, filler: Path) -> None:
    """Check that a guest that writes while the disk is full continues afterwards."""
    guest = landscape.boot("fits", script=WRITES)
    guest.await_ready()
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**12))
    until(lambda: guest.show()["OS-EXT-STS:power_state"] == PAUSED, "paused by QEMU", PATIENCE_S)
    filler.unlink()
    for action, status in (("pause", "PAUSED"), ("unpause", "ACTIVE")):
        guest.act(**{action: None})
        guest.await_status(status)
    guest.await_console("written: all")
    guest.delete()


def taken(cloud: Deployment, ports: range) -> ExitStack:
    """Occupy ports of the site's loopback address."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held = ExitStack()

    def take() -> None:
        for port in ports:
            holder = held.enter_context(socket.socket())
            with suppress(OSError):  # other guests' consoles may have the port
                holder.bind(("127.0.0.1", port))
                holder.listen(1)

    network = os.open(cloud.wan().namespace("paris").network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        within(network, take)
    finally:
        os.close(network)
    return held


def test_ports_of_consoles_that_are_taken(cloud, paris, site):
    """Other ports are used; without a free port, the error says so."""
    with taken(cloud, range(5900, 5910)), taken(cloud, range(10_000, 10_010)):
        guest = paris.boot("elsewhere")
        guest.await_ready()
        guest.delete()
    with taken(cloud, range(10_000, 20_001)):
        assert site.fails().endswith("aborted: no port of 10000:20000 is free for its serial console")


@pytest.mark.parametrize("packages", [[], ["linux-image-6.1.0-1-cloud-amd64_6.1.1-1_amd64.deb"]])
def test_image_that_can_not_be_made_where_the_disk_is_full(tmp_path, packages):
    """No kernel is downloaded or unpacked there."""
    with file_system(tmp_path / "cache", 60) as cache:
        cloud = Deployment(tmp_path / "state", {"XDG_CACHE_HOME": str(cache)})
        directory = cache / "atoll" / "guest"
        directory.mkdir(parents=True)
        for name in packages:
            (directory / name).touch()
        message = cloud.refused("image", "build")
        assert re.fullmatch(rf"{directory}: 6\d MB free: expected at least \d+ MB to build the guest image", message)
        assert sorted(path.name for path in directory.iterdir()) == packages
