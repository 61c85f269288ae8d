"""The cloud of a suite, and Tempest beside its first site or in that site's network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from images import serve_images
from suites import HERE, PORTS, SITE, Suite

WORK = Path(os.environ.get("ATOLL_TEMPEST", HERE.parents[1] / ".tempest")).absolute()
STATE = WORK / "state"
LOGS = STATE / "sites" / SITE / "log"


def atoll(*arguments: str) -> str:
    """Run `atoll` on the cloud of these tests and return its standard output."""
    return subprocess.run(_atoll(*arguments), check=True, stdout=subprocess.PIPE, text=True).stdout


def _atoll(*arguments: str) -> list[str]:
    return [_program("atoll"), "--state", str(STATE), *arguments]


def _program(name: str) -> str:
    """Return the path of a program of this virtual environment."""
    return str(Path(sys.executable).with_name(name))


@contextmanager
def running(suite: Suite, database: str) -> Iterator[None]:
    """Run a new cloud during the context, and write a tempest.conf for its first site, whose databases are at that place."""
    WORK.mkdir(parents=True, exist_ok=True)
    if STATE.exists():
        atoll("destroy", "--yes")
    file = WORK / "cloud.yaml"
    with serve_images() as images:
        port = _free_base_port(PORTS * (1 + len(suite.other_sites)))
        document = suite.cloud(port, int(images.rpartition(":")[2]), STATE / "sites" / SITE / "data")
        if started := database.partition(":")[2]:
            document["sites"][0]["database"] = {"start": started}
        file.write_text(yaml.safe_dump(dict(document)))
        atoll("up", str(file))
        try:
            _await_members({SITE, *suite.other_sites})
            _configure(images)
            yield
        finally:
            atoll("down")


def _await_members(names: set[str]) -> None:
    """Wait until the tested site reaches the others; otherwise lists would be incomplete."""
    for _ in range(600):
        members = json.loads(atoll("mesh", SITE, "--json"))["members"]
        if {each["name"] for each in members if each["state"] == "alive"} == names:
            return
        time.sleep(0.1)
    raise SystemExit(f"{SITE} does not reach the other sites")


def _free_base_port(count: int) -> int:
    """Return a base port such that `count` ports from it on are free."""
    for base in range(18000, 28000, 10):
        try:
            for port in range(base, base + count):
                with closing(socket.socket()) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise SystemExit(f"no {count} free ports in a row")


def _configure(images: str) -> None:
    """Write tempest.conf, and the configuration of stestr with the paths of the tests."""
    import tempest

    more = f"\n[image]\nhttp_image = {images}/raw\nhttp_qcow2_image = {images}/qcow2\n"
    more += "[neutron_plugin_options]\ncreate_shared_resources = true\n"  # the cloud has no other users
    (WORK / "tempest.conf").write_text(atoll("tempest-conf", SITE) + more)
    (WORK / "tempest.conf").chmod(0o600)
    package = Path(tempest.__file__).parent
    text = f"[DEFAULT]\ntest_path={package}/test_discover\ntop_dir={package.parent}\ngroup_regex=([^\\.]*\\.)*\n"
    (WORK / ".stestr.conf").write_text(text)
    shutil.rmtree(WORK / ".stestr", ignore_errors=True)
    subprocess.run([_program("stestr"), "init"], cwd=WORK, check=True)


def start_tempest(suite: Suite, *arguments: str) -> subprocess.Popen[str]:
    """Start `tempest run` for a suite."""
    # The user's own account and proxy must have no effect.
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("OS_")}
    environment |= {"no_proxy": "*", "NO_PROXY": "*"}
    command = [_program("tempest"), "run", "--config-file", str(WORK / "tempest.conf"), *arguments]
    if suite.emulated:
        # Tests of function chains bind their ports to this host.
        command = _atoll("exec", SITE, "--", "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', SITE, *command)
    return subprocess.Popen(command, cwd=WORK, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def listed(suite: Suite, *arguments: str) -> list[str]:
    """Return the names of the tests that these arguments select."""
    with start_tempest(suite, "--list-tests", *arguments) as process:
        output, _nothing = process.communicate()
    if process.returncode:
        raise SystemExit(output)
    return [line.partition("[")[0] for line in output.splitlines() if line.startswith(("tempest.", "neutron_tempest_plugin."))]
