"""A probe of the way in which the installed OVN tracks address translations (NAT).

A router of Neutron may translate the source addresses of all packets that leave it (`ovn_router_indirect_snat`), even those of networks
behind a second router. OVN before 23.06 tracks such a translation in the same zone as that of a floating IP. A guest that connects to
another guest of the same router by floating IP then gets no answer, because the answer would be translated twice in one zone. Newer
versions use two zones (OVN's commit "northd: Make the use of common zone in NAT configurable").
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from atoll.services.neutron.ovn import layout
from atoll.services.neutron.ovn.ovsdb import SCHEMAS

_COMMON_ZONE = "_in_czone"
"""Suffix of the actions of logical flows that use the common zone: `ct_snat_in_czone`, `ct_dnat_in_czone`."""

_ROUTER = (
    *("lr-add", "router"),
    *("--", "lrp-add", "router", "out", "02:00:00:00:00:01", "192.0.2.1/24"),
    *("--", "lrp-set-gateway-chassis", "out", "host"),
    *("--", "lr-nat-add", "router", "snat", "192.0.2.1", "0.0.0.0/0"),
    *("--", "lr-nat-add", "router", "dnat_and_snat", "192.0.2.5", "10.0.0.5"),
)
"""Commands that create a router with a floating IP that translates all sources."""


def uses_two_zones() -> bool:
    """Return whether OVN's northd tracks translations of sources and of destinations in two zones.

    The probe runs a northd with databases in a temporary directory, creates a router and reads its logical flows. It takes half a second.

    Raises:
        OSError, subprocess.SubprocessError: OVN is not installed, or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="atoll-ovn-") as name, ExitStack() as stack:
        database = f"unix:{name}/db.sock"
        files = [f"{name}/{each}.db" for each in ("ovnnb", "ovnsb")]
        for file in files:
            subprocess.run(["ovsdb-tool", "create", file, SCHEMAS[Path(file).stem]], check=True, capture_output=True)
        _start(stack, name, "ovsdb-server", f"--remote=p{database}", *files)
        _await(Path(name, "db.sock"))
        _start(stack, name, "ovn-northd", f"--ovnnb-db={database}", f"--ovnsb-db={database}")
        _run("ovn-nbctl", f"--db={database}", "--wait=sb", *_ROUTER)
        flows = _run("ovn-sbctl", f"--db={database}", "lflow-list", "router")
    return "ct_snat" in flows and _COMMON_ZONE not in flows


def _start(stack: ExitStack, directory: str, program: str, *arguments: str) -> None:
    command = [program, "--no-chdir", f"--unixctl={directory}/{program}.ctl", "-vconsole:off", "-vsyslog:off", "-vfile:off", *arguments]
    process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    stack.callback(process.kill)


def _await(path: Path) -> None:
    deadline = time.monotonic() + layout.PATIENCE_S
    while not layout.answers(path) and time.monotonic() < deadline:
        time.sleep(0.01)


def _run(program: str, *words: str) -> str:
    command = [program, f"--timeout={layout.PATIENCE_S}", "--no-leader-only", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
