"""Three minutes of all kinds of faults at five sites: nothing acknowledged is lost. `atoll bench faults` runs longer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.cloud.network import Network, Node, Wire
from atoll.errors import AtollError
from atoll.wan.client import Wan

SEED = 1
LONGEST_S = 1500
"""Time limit in seconds: five sites start, are read, and have three minutes to agree, on a busy machine."""


@pytest.fixture
def emulated(tmp_path) -> None:
    """Skip the test if no network can be emulated."""
    network = Network((Node("a"), Node("b")), {("a", "b"): Wire(delay_ms=1), ("b", "a"): Wire(delay_ms=1)})
    try:
        Wan.start(tmp_path, network).close()
    except AtollError as error:
        pytest.skip(f"no WAN: {error.message}")


@pytest.mark.timeout(LONGEST_S)
@pytest.mark.usefixtures("emulated")
def test_nothing_acknowledged_is_lost(tmp_path):
    kept = tmp_path / "kept"
    words = ["bench", "faults", "--minutes", "3", "--seed", str(SEED), "--keep", str(kept), "--json"]
    atoll = Path(sys.executable).with_name("atoll")
    done = subprocess.run([atoll, *words], capture_output=True, text=True, timeout=LONGEST_S - 60, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert (report["violations"], report["faults_failed"]) == ([], []), f"`atoll {' '.join(words)}`: {report}"
    assert (report["lost"], report["duplicated"], report["orphans"], report["converged"]) == (0, 0, 0, True)
    assert report["acknowledged"] > 30, "expected acknowledged requests"
    assert all(report["operations"][f"{type_}.create"]["acknowledged"] for type_ in ("user", "project", "grant", "image", "server"))
    assert len(report["faults"]) == 9, "every kind of fault must occur"
    assert done.returncode == 0, done.stderr
