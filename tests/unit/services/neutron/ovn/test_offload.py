"""Checksum offload of a real interface, in a network namespace of its own."""

import os
import subprocess
import sys

import pytest

from atoll.services.neutron.ovn.offload import send_whole_packets

CODE = """
import subprocess
from pyroute2.ethtool.ioctl import IoctlEthtool
from atoll.services.neutron.ovn.offload import send_whole_packets
if subprocess.run(["ip", "link", "add", "a", "type", "veth", "peer", "name", "b"], check=False).returncode:
    raise SystemExit("no veth")
def flags():
    told = IoctlEthtool("a").get_offload_flags()
    return told["tx-checksumming"], told["tcp-segmentation-offload"]
before = flags()
send_whole_packets("a")
try:
    send_whole_packets("none")
except OSError as error:
    print(before, flags(), error.strerror, error.filename)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_kernel_makes_checksums_and_segments():
    done = subprocess.run(["unshare", "--net", sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    if "no veth" in done.stderr:
        pytest.skip("the kernel has no veth")
    assert done.stdout.strip() == "(True, True) (False, False) No such device none"


def test_an_interface_that_does_not_exist_is_told():
    with pytest.raises(OSError, match=r"No such device.*none"):
        send_whole_packets("none")
