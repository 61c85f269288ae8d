"""Missing requirements of a machine or user are reported in one line before any change. Each test hides one from one command."""

import subprocess
import sys

import pytest
from deployment import until

from atoll.wan import netem

MESH = {"preset": "mesh"}
SITES = ({"name": "paris"}, {"name": "lyon"})
THEN = 'exec "$0" "$@"'
WITHOUT_TUN = ("unshare", "--map-root-user", "--mount", "sh", "-c", f"mount --bind /dev/null /dev/net/tun && {THEN}")
WITHOUT_NAMESPACES = (
    *("unshare", "--map-root-user", "sh", "-c"),
    'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all -- "$0" "$@"',
)


@pytest.fixture
def fresh(make):
    """Return a cloud that never starts."""
    cloud = make()
    yield cloud
    assert not cloud.root.exists(), "the refused command must create no files"


def lacking(cloud, *before: str):
    """Return the same cloud with commands that lack a requirement; skip the test if it cannot be hidden."""
    done = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this user can take nothing away from a command: {done.stderr.strip()}")
    cloud.before = before
    return cloud


def kernel_emulates() -> bool:
    """Return whether the kernel has netem, so that a WAN needs no TUN device; tested in a user namespace like an ordinary user's."""
    code = f"from {netem.__name__} import available; from atoll.wan.isolation import gain_networks; gain_networks(); print(available())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_wan_without_a_tun_device(fresh):
    if kernel_emulates():
        pytest.skip("this kernel has netem, which needs no TUN device")
    message = lacking(fresh, *WITHOUT_TUN).refused("up", fresh.file(*SITES, topology=MESH))
    assert message == "/dev/net/tun can't be used: Inappropriate ioctl for device"


def test_wan_without_namespaces(fresh):
    message = lacking(fresh, *WITHOUT_NAMESPACES).refused("up", fresh.file(*SITES, topology=MESH))
    assert message == "this user can't create network namespaces: no more user namespaces are allowed"


def test_too_few_open_files(fresh):
    message = lacking(fresh, "prlimit", "--nofile=100:100").refused("up", fresh.file({"name": "paris"}))
    assert message == "a process may open 100 files: expected at least 256"


def test_root_without_capabilities_has_a_wan_as_ordinary_users_have(make, keystone_only):
    """As in a container, root lacks the capabilities for namespaces and interfaces."""
    cloud = lacking(make(), "setpriv", "--bounding-set=-net_admin,-sys_admin", "--inh-caps=-all")
    cloud.atoll("up", cloud.file(*({**site, "services": keystone_only} for site in SITES), topology=MESH))
    assert cloud.wan().describe()["rootless"]
    until(lambda: "alive" in cloud.atoll("mesh", "paris"), "lyon is seen over the WAN")
