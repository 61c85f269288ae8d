"""Runs Tempest's API tests through the gateway of one site of a cloud of three, and fails unless each passes or stands in excluded.txt.

Everything is kept in `.tempest`, or where ATOLL_TEMPEST says, until the next run: tempest.conf, Tempest's output and log, the sites
with their services' logs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from exclusions import complaints, read_exclusions
from images import serve_images

HERE = Path(__file__).parent
WORK = Path(os.environ.get("ATOLL_TEMPEST", HERE.parents[1] / ".tempest")).absolute()
STATE = WORK / "state"
OUTPUT = WORK / "output.txt"
SITE = "reef"
"""The one that is asked."""

OTHERS = ("lagoon", "shoal")
"""Those that it is one cloud with."""

TESTS = r"^tempest\.api\.(compute|identity|image|network)\."
RESULT = re.compile(r"^\{\d+\} (.+?)(?: \[[\d.]+s\])? \.\.\. (ok|FAILED|SKIPPED.*)$")
SUSPICIOUS = re.compile(r"database is locked|wait for itself|Unexpected API Error|Internal Server Error", re.IGNORECASE)
"""What must be in no service's log, whether or not a test has noticed."""


def main() -> int:
    """Parse, run, tell; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="only the tests of smoke.txt")
    parser.add_argument("--regex", default=TESTS, help="only tests that match")
    parser.add_argument("--alone", action="store_true", help="a single site, which is no cloud with others")
    parser.add_argument("--concurrency", type=int, default=2, help="tests at once")
    wanted = parser.parse_args()
    began = time.monotonic()
    WORK.mkdir(exist_ok=True)
    with serve_images() as images, running_sites(images, () if wanted.alone else OTHERS):
        configure(images)
        found = [*list_problems(), *run_problems(wanted), *log_problems()]
    for problem in found:
        print(problem)
    print(f"{len(found)} problems, {time.monotonic() - began:.0f} s; {OUTPUT} has the output, {STATE}/sites/{SITE}/log the logs")
    return 1 if found else 0


def atoll(*arguments: str) -> str:
    """Run atoll on the cloud of these tests; what it writes to standard output."""
    command = [program("atoll"), "--state", str(STATE), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def program(name: str) -> str:
    """A program of this virtual environment."""
    return str(Path(sys.executable).with_name(name))


@contextmanager
def running_sites(images: str, others: Sequence[str]) -> Iterator[None]:
    """A new cloud, as long as the block runs; the site that is asked has the optional features on that Tempest has tests for."""
    if STATE.exists():
        atoll("destroy", "--yes")
    file = WORK / "cloud.yaml"
    port = free_base_port(10 * (1 + len(others)))
    site = {"name": SITE, "port": port, "compute": "fake", "options": options(port, int(images.rpartition(":")[2]))}
    more = [{"name": name, "port": port + 10 * number, "compute": "fake"} for number, name in enumerate(others, start=1)]
    file.write_text(yaml.safe_dump({"name": "tempest", "sites": [site, *more]}))
    atoll("up", str(file))
    await_members({SITE, *others})
    try:
        yield
    finally:
        atoll("down")


def await_members(names: set[str]) -> None:
    """Wait until the site that is asked reaches the others: a list would else lack what they have."""
    for _ in range(600):
        members = json.loads(atoll("mesh", SITE, "--json"))["members"]
        if {each["name"] for each in members if each["state"] == "alive"} == names:
            return
        time.sleep(0.1)
    raise SystemExit(f"{SITE} does not reach the other sites")


def free_base_port(count: int) -> int:
    """A base port from which on so many ports are free."""
    for base in range(18000, 28000, 10):
        try:
            for port in range(base, base + count):
                with closing(socket.socket()) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise SystemExit(f"no {count} free ports in a row")


def options(base_port: int, images_port: int) -> dict[str, object]:
    """What is off on a site unless somebody asks for it: tests of what is off would be skipped."""
    data = STATE / "sites" / SITE / "data"
    ports = [80, 443, images_port, base_port + 1]  # the last is the gateway, which the catalogue names
    return {
        "glance": {
            "DEFAULT": {
                # Tempest expects that a store of type http is called web.
                "enabled_backends": ["files:file", "more:file", "web:http"],
                # The latter two have nothing to copy to, or from, where there is one store and one site.
                "enabled_import_methods": "[glance-direct,web-download,copy-image,glance-download]",
                "show_multiple_locations": True,
                "image_cache_dir": f"{data}/cache",
            },
            # Tempest expects the stores sorted by weight in one test, and by name in others.
            "files": {"weight": 20},
            "more": {"weight": 10, "filesystem_store_datadir": f"{data}/more"},
            "paste_deploy": {"flavor": "keystone+cachemanagement"},
            # Images come from this machine, from a web server and from Glance itself, which Glance otherwise refuses.
            "import_filtering_opts": {"allowed_hosts": "[127.0.0.1]", "allowed_ports": str(ports)},
        },
        "keystone": {"security_compliance": {"lockout_failure_attempts": 2, "lockout_duration": 5, "unique_last_password_count": 2}},
    }


def configure(images: str) -> None:
    """Write tempest.conf, and where stestr finds Tempest's tests."""
    import tempest

    more = f"\n[image]\nhttp_image = {images}/raw\nhttp_qcow2_image = {images}/qcow2\n"
    (WORK / "tempest.conf").write_text(atoll("tempest-conf", SITE) + more)
    (WORK / "tempest.conf").chmod(0o600)
    package = Path(tempest.__file__).parent
    text = f"[DEFAULT]\ntest_path={package}/test_discover\ntop_dir={package.parent}\ngroup_regex=([^\\.]*\\.)*\n"
    (WORK / ".stestr.conf").write_text(text)
    shutil.rmtree(WORK / ".stestr", ignore_errors=True)
    subprocess.run([program("stestr"), "init"], cwd=WORK, check=True)


def tempest(*arguments: str) -> subprocess.Popen[str]:
    """Start `tempest run`."""
    # Neither an account of the user's own nor a proxy may come between.
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("OS_")}
    environment |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    command = [program("tempest"), "run", "--config-file", str(WORK / "tempest.conf"), *arguments]
    return subprocess.Popen(command, cwd=WORK, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def listed(*arguments: str) -> list[str]:
    """The names of the tests that a run with these arguments would run."""
    with tempest("--list-tests", *arguments) as process:
        output, _nothing = process.communicate()
    if process.returncode:
        raise SystemExit(output)
    return [line.partition("[")[0] for line in output.splitlines() if line.startswith("tempest.")]


def list_problems() -> list[str]:
    """What is wrong with excluded.txt."""
    return complaints(read_exclusions(HERE / "excluded.txt"), listed("--regex", TESTS))


def run_problems(wanted: argparse.Namespace) -> list[str]:
    """Run Tempest: each selected test must pass."""
    # An include list would add to a regular expression, not narrow it.
    selection = ["--include-list", str(HERE / "smoke.txt")] if wanted.smoke else ["--regex", wanted.regex]
    selection += ["--exclude-list", str(HERE / "excluded.txt")]
    selected = listed(*selection)
    print(f"{len(selected)} tests", flush=True)
    (WORK / "tempest.log").unlink(missing_ok=True)
    passed, others = set(), []
    with tempest(*selection, "--concurrency", str(wanted.concurrency)) as process, OUTPUT.open("w") as output:
        for line in process.stdout or ():
            output.write(line)
            result = RESULT.match(line)
            if result and result[2] == "ok":
                passed.add(result[1])
                if len(passed) % 100 == 0:
                    print(f"{len(passed)} passed", flush=True)
            elif result:
                others.append(f"{result[1]}: {result[2]}")
                print(others[-1], flush=True)
    missing = [f"{name}: did not pass" for name in selected if name not in passed and not any(name in other for other in others)]
    print(f"{len(passed)} of {len(selected)} passed", flush=True)
    return missing + [f"{len(others)} tests failed or were skipped"] * bool(others)


def log_problems() -> list[str]:
    """Lines of the services' logs that no good run leaves behind."""
    found = []
    for log in sorted((STATE / "sites" / SITE / "log").glob("*.log")):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if SUSPICIOUS.search(line)]
        found += [f"{log.name}: {line}" for line in lines[:5]]
    return found


if __name__ == "__main__":
    sys.exit(main())
