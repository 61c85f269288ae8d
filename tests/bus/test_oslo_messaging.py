"""oslo.messaging's own functional tests pass with this driver, except those that `functional.py` names with their reasons."""

import json
import os
import subprocess
import sys
from pathlib import Path

import functional

SHARDS = 15
DOCUMENTED = Path(__file__).parents[2] / "docs" / "bus.md"


def test_upstream_s_functional_tests(stage):
    (stage.directory / "outcomes").mkdir()
    environment = {
        **os.environ,
        "RPC_TRANSPORT_URL": "zenoh:///functional",
        "NOTIFY_TRANSPORT_URL": "zenoh:///functional",
        "XDG_RUNTIME_DIR": str(stage.directory),
        "XDG_STATE_HOME": str(stage.directory / "state"),
    }
    command = [sys.executable, functional.__file__, str(stage.directory / "outcomes"), str(SHARDS)]
    with (stage.directory / "log").open("w+") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=280, check=True)
    outcomes = [json.loads(line) for path in (stage.directory / "outcomes").iterdir() for line in path.read_text().splitlines()]
    assert {outcome["test"]: outcome["why"] for outcome in outcomes if outcome["outcome"] in {"failed", "skipped"}} == {}
    assert {outcome["test"] for outcome in outcomes if outcome["outcome"] == "excluded"} == set(functional.EXCLUDED)
    assert len([outcome for outcome in outcomes if outcome["outcome"] == "passed"]) >= 29


def test_excluded_tests_are_documented():
    page = DOCUMENTED.read_text()
    assert [test for test in functional.EXCLUDED if test.rsplit(".", 1)[1] not in page] == []
