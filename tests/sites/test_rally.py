"""Rally itself against a real site with fake guests: scenarios, tasks of files, failures, refusals, and what stays of a cell."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from atoll.experiment.run import find
from atoll.rally import environment

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="Rally works in the network of a site: needs root"),
    pytest.mark.timeout(7200),
]

EXPERIMENT = """\
name: rally
repetitions: 1
architectures: [{kind: cooperative, sites: 1}]
workloads:
  boot: {times: 1}
  tokens: {rally: KeystoneBasic.authenticate_user_and_validate_token, times: 4, concurrency: 2}
  nowhere: {rally: NovaServers.boot_server, args: {availability_zone: nowhere}, times: 2}
  every: {rally: task.json, args: {image: IMAGE}}
"""
SCENARIOS = {
    "NovaServers.boot_and_delete_server": {},
    "NovaServers.boot_and_associate_floating_ip": {},
    "NovaServers.pause_and_unpause_server": {},
    "NovaServers.boot_server_and_attach_interface": {
        "network_create_args": {}, "subnet_create_args": {}, "boot_server_args": {"auto_assign_nic": True}
    },
    "NovaServers.list_servers": {"detailed": True},
    "NeutronNetworks.create_and_delete_networks": {},
    "NeutronNetworks.create_and_delete_subnets": {"subnets_per_network": 2},
    "NeutronNetworks.create_and_delete_ports": {"ports_per_network": 2},
    "NeutronNetworks.create_and_delete_routers": {"subnets_per_network": 1},
    "NeutronSecurityGroup.create_and_delete_security_groups": {},
    "GlanceImages.create_image_and_boot_instances": {
        "image_location": "{{ image }}", "container_format": "bare", "disk_format": "raw", "number_instances": 1
    },
}  # fmt: skip
SERVER = {"image": {"name": "cirros-atoll-disk"}, "flavor": {"name": "m1.tiny"}}


def task():
    """Return a task of Rally in its own format, with one iteration of each scenario and no arguments left out."""
    workloads = []
    for name, given in SCENARIOS.items():
        lists, boots = name == "NovaServers.list_servers", name.startswith(("NovaServers", "Glance"))
        server = {} if lists or not boots else SERVER if name.startswith("Nova") else {"flavor": SERVER["flavor"]}
        contexts = {"users": {"tenants": 1, "users_per_tenant": 1}, **({"network": {}} if boots else {})}
        if lists:
            contexts["servers"] = {**SERVER, "servers_per_tenant": 3}
        scenario, runner = {name: {**given, **server}}, {"constant": {"times": 1, "concurrency": 1}}
        workloads.append({"scenario": scenario, "runner": runner, "contexts": contexts})
    return {"version": 2, "title": "Every scenario", "subtasks": [{"title": "every", "workloads": workloads}]}


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Return a function that runs `atoll experiment`; it returns the process, its runs are below `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="x") as short:
        monkeypatch.setenv("TMPDIR", short)

        def run(*words):
            whole = [sys.executable, "-m", "atoll", "experiment", "--runs", str(tmp_path / "runs"), *words]
            return subprocess.run(whole, capture_output=True, text=True, check=False)

        yield run
        assert list(Path(short).iterdir()) == []


def test_rally_runs_its_scenarios_against_a_site(command, tmp_path):
    file, image = tmp_path / "rally.yaml", tmp_path / "image.raw"
    image.write_bytes(bytes(100_000))
    (tmp_path / "task.json").write_text(json.dumps(task()), encoding="utf-8")
    text = EXPERIMENT.replace("IMAGE", str(image))
    for wrong, line, reason in [
        ("boot_servr", 7, "rally-openstack has no scenario NovaServers.boot_servr (did you mean NovaServers.boot_server?)"),
        ("boot_server_from_volume", 7, "the scenario NovaServers.boot_server_from_volume needs cinder, which a site does not have"),
    ]:
        file.write_text(text.replace("boot_server,", f"{wrong},"), encoding="utf-8")
        refused = command("run", str(file))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"{file}:{line}: workloads.nowhere.rally: {reason}" in refused.stderr
    assert not (tmp_path / "runs").exists()
    file.write_text(text, encoding="utf-8")
    done = command("run", str(file))
    assert done.returncode == 0, done.stderr
    run = find(tmp_path / "runs", "rally", pytest.fail)
    found = {cell.workload: run.samples(cell) for cell in run.cells}
    tokens = [sample for sample in found["tokens"] if sample.operation == "KeystoneBasic.authenticate_user_and_validate_token"]
    assert [sample.ok for sample in tokens] == [True] * 4
    assert all(-5 < sample.started_s == sample.intended_s < sample.ended_s for sample in tokens)
    failed = [sample for sample in found["nowhere"] if sample.operation == "NovaServers.boot_server"]
    assert [sample.ok for sample in failed] == [False] * 2
    assert all("availability zone" in sample.error for sample in failed), failed
    wrong = [(sample.operation, sample.error) for sample in found["every"] if not sample.ok]
    assert wrong == []
    assert {sample.operation for sample in found["every"]} >= {*SCENARIOS, "nova.boot_server", "neutron.create_floating_ip"}
    _check_rest(command, run, tmp_path)


def _check_rest(command, run, tmp_path):
    """Check what is kept of a cell, that the own workload is beside it, and what users see."""
    cell = next(cell for cell in run.cells if cell.workload == "every")
    kept = run.directory / "rally" / cell.id / "site-1"
    assert {"rally.sqlite", "report.json", "rally.log"} <= {path.name for path in kept.iterdir()}
    python = environment.ensure(pytest.fail)
    told = subprocess.run(
        [python, "-I", "-c", "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('select status from tasks').fetchone())",
         kept / "rally.sqlite"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == "finished"
    compared = json.loads(command("compare", "rally", "rally", "--json").stdout)
    assert {"boot", "NovaServers.pause_and_unpause_server"} <= {each["operation"] for each in compared}
    assert command("report", "rally", "--output", str(tmp_path / "x.html")).returncode == 0
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "NeutronNetworks.create_and_delete_subnets" in page
    assert command("export", "rally", "--output", str(tmp_path / "data")).returncode == 0
    assert not list((tmp_path / "data").rglob("*.sqlite")), "Rally's database has the password of the cell's cloud"
