"""Nothing is left after `kill -9` of all processes and `atoll destroy`, as root and as an ordinary user."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ordinary import ordinary

PROGRAM = r"""
import json, os, signal, subprocess, sys, time
from pathlib import Path

state, file, bindir = sys.argv[1:]
environment = {"PATH": os.environ["PATH"], "SHELL": "/bin/sh", "HOME": os.environ["HOME"], "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}

def atoll(*arguments):
    done = subprocess.run([f"{bindir}/atoll", "--state", state, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout

def network(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None

def every(): return [int(name) for name in os.listdir("/proc") if name.isdigit()]
def devices(): return sorted(line.split(":")[0] for line in Path("/proc/net/dev").read_text().splitlines()[2:])
def mounts(): return sorted(Path("/proc/self/mounts").read_text().splitlines())

before = devices(), mounts()
atoll("up", file)
one = "import os; print(os.readlink('/proc/self/ns/net'), os.getuid())"
said = [atoll("exec", site, "--", sys.executable, "-c", one).split() for site in ("paris", "lyon")]
assert said[0][0] != said[1][0] and {user for _net, user in said} == {str(os.getuid())}, said
url = "import os, urllib.request as u; print(u.urlopen(os.environ['OS_AUTH_URL']).status)"
assert atoll("exec", "lyon", "--", sys.executable, "-c", url).strip() == "200"
assert atoll("shell", "lyon", "-c", f"{bindir}/atoll wan show").startswith("emulator")
networks = {net for net, _user in said}
wan = json.loads(atoll("wan", "show", "--json"))["pid"]
status = json.loads(atoll("status", "--json"))
rows = [status["supervisor"], *status["fork_servers"], *(row for site in status["sites"] for row in site["processes"])]
doomed = [wan, *(row["pid"] for row in rows if row["pid"])]
assert networks <= {network(pid) for pid in doomed}
for pid in doomed:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # with its parent
atoll("destroy", "--yes")
deadline = time.monotonic() + 60
while left := [pid for pid in every() if pid in doomed and Path(f"/proc/{pid}/cmdline").read_bytes() or network(pid) in networks]:
    assert time.monotonic() < deadline, left
    time.sleep(0.05)
assert not Path(state).exists()
assert (devices(), mounts()) == before
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a directory that all users may use, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="atoll-traces-") as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_nothing_is_left(who, place, keystone_only, tmp_path_factory):
    if who == "root" and os.geteuid() != 0:
        pytest.skip("not root")
    sites = [{"name": name, "services": keystone_only} for name in ("paris", "lyon")]
    (place / "cloud.yaml").write_text(yaml.safe_dump({"sites": sites, "topology": {"defaults": {"delay": "5ms"}}}))
    bindir = Path(sys.executable).parent
    prefix = ordinary(tmp_path_factory.mktemp("nobody")) if who == "ordinary" else []
    command = [*prefix, sys.executable, "-c", PROGRAM, place / "state", place / "cloud.yaml", bindir]
    environment = os.environ | {"HOME": str(place), "XDG_CACHE_HOME": str(place / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
