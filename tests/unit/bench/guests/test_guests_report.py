"""The report of an experiment with guests."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from atoll.bench.guests import experiment, memory
from atoll.bench.guests.experiment import SCRIPT, GuestsOptions, run
from atoll.bench.guests.memory import Memory
from atoll.bench.guests.report import ratios, summary
from atoll.bench.guests.serving import served
from atoll.bench.guests.tenancy import Boot
from atoll.bench.guests.traffic import TrafficSample
from atoll.bench.workspace import Workspace
from atoll.cli.bench_guests import BOOTS, PATHS, TRAFFIC, _numbers, _traffic
from atoll.errors import AtollError
from atoll.site.state import State

BOOTED = [Boot(2.0, 6.0), Boot(4.0, 5.0), Boot(3.0, None)]
MEMORY = {
    "real": Memory({"nova": 100.0, "vswitchd": 12.0}, {"nova": 40.0, "vswitchd": 11.0}),
    "fake": Memory({"nova": 98.5}, {"nova": 39.0}),
}


def samples(rate: float) -> dict[str, list[TrafficSample]]:
    return {
        "tcp": [TrafficSample(rate, 0, 0), TrafficSample(rate * 3, 0, 0), TrafficSample(rate * 2, 0, 0)],
        "udp": [TrafficSample(rate, 100, 0.5)],
        "packets": [TrafficSample(0.001, rate * 1000, 0, 3000, rate * 7)],
    }


@pytest.fixture
def report() -> dict[str, object]:
    traffic = {"guests": samples(0.1), "ports": samples(1), "bridge": samples(5), "veth": samples(10)}
    return summary({"guests": 3, "accelerator": "TCG"}, BOOTED, traffic, MEMORY, MEMORY)


def test_times_are_medians_of_those_that_answered(report):
    assert (report["http_answered"], report["guests"]) == (2, 3)
    assert report["request_to_http_s"] == 8.5
    assert (report["control_plane_s"], report["guest_s"]) == (3.0, 5.5)


def test_nothing_answered():
    found = summary({}, [Boot(1.0, None)], {}, MEMORY, MEMORY)
    assert (found["http_answered"], found["request_to_http_s"], found["guest_s"]) == (0, None, None)


def test_traffic_is_told_by_path(report):
    assert (report["tcp_gbit_s"], report["udp_gbit_s"], report["packets_s"]) == (0.2, 0.1, 100)
    assert (report["veth_gbit_s"], report["bridge_gbit_s"], report["ports_gbit_s"]) == (20, 10, 2)
    assert report["veth_packets_s"] == 10_000
    assert report["switch_us_per_packet"] == 7


def test_each_path_is_compared_with_those_that_have_less_to_do():
    found = ratios({"guests": {"tcp_gbit_s": 1.0}, "ports": {"tcp_gbit_s": 4.0}, "veth": {"tcp_gbit_s": 8.0}})
    assert found == {"guests_to_ports_tcp_gbit_s": 0.25, "guests_to_veth_tcp_gbit_s": 0.125, "ports_to_veth_tcp_gbit_s": 0.5}
    assert ratios({"guests": {"tcp_gbit_s": 1.0}, "veth": {"tcp_gbit_s": 0.0}}) == {}


def test_memory_is_what_the_site_with_guests_takes_more(report):
    assert report["data_plane_mb"] == 13.5
    assert report["data_plane_mb_by_process"] == {"vswitchd": 12.0, "nova": 1.5}
    assert list(report["data_plane_mb_by_process"]) == ["vswitchd", "nova"]
    assert (report["data_plane_at_start_mb"], report["data_plane_private_mb"]) == (13.5, 12.0)
    assert report["data_plane_private_mb_by_process"] == {"vswitchd": 11.0, "nova": 1.0}
    assert report["memory_mb"]["real_booted"] == 112.0
    assert report["targets"] == {"data_plane_mb": {"wanted": 120.0, "value": 13.5, "met": True}}


def test_processes_are_known_by_a_path_of_their_site(tmp_path):
    assert memory._name(1 << 30, tmp_path) == ""
    assert memory._private(1 << 30) == 0
    command = ["cat", "-", str(tmp_path / "data" / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x", "the process must run before Linux shows its arguments"
        assert memory._name(process.pid, tmp_path / "data") == "cat"
        assert memory._name(process.pid, tmp_path / "other") == ""
        process.kill()


def test_a_site_takes_what_its_services_take_and_what_they_have_started_but_not_its_guests(monkeypatch, tmp_path):
    rows = [
        SimpleNamespace(name="real/nova", pid=1),
        SimpleNamespace(name="real/neutron", pid=2),
        SimpleNamespace(name="real/glance", pid=None),
    ]
    monkeypatch.setattr(memory, "status", lambda *_args: SimpleNamespace(sites=[SimpleNamespace(processes=rows)]))
    monkeypatch.setattr(memory.guests, "running", lambda _site: [SimpleNamespace(pid=9)])
    monkeypatch.setattr(memory, "pids", lambda _state: [1, 2, 3, 4, 5, 9])
    monkeypatch.setattr(memory, "_name", lambda pid, _site: {3: "haproxy", 4: "haproxy", 9: "qemu"}.get(pid, ""))
    monkeypatch.setattr(memory, "proportional_set_size", lambda pid: pid * 1_000_000)
    monkeypatch.setattr(memory, "_private", lambda pid: pid * 500_000)
    found = memory.of_site(State(tmp_path), "real")
    assert found.proportional == {"nova": 1.0, "neutron": 2.0, "haproxy": 7.0}
    assert found.private == {"nova": 0.5, "neutron": 1.0, "haproxy": 3.5}


def test_report_can_be_written_and_shown(report):
    assert json.loads(json.dumps(report)) == report
    assert _traffic(report).row_count == len(TRAFFIC)
    assert len(_traffic(report).columns) == 1 + len(PATHS)
    assert _numbers(report).row_count == len(BOOTS)


def test_machine_that_runs_no_guests(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "obstacle", lambda: AtollError("guests.unavailable", "not installed: libvirtd", "apt-get install it"))
    with pytest.raises(AtollError, match="not installed: libvirtd"):
        run(GuestsOptions(), Workspace(tmp_path, {}, lambda _text: None))
    assert list(tmp_path.iterdir()) == []


def test_guests_fetch_the_program(tmp_path, monkeypatch):
    from urllib.request import urlopen

    from atoll.bench.guests import serving

    monkeypatch.setattr(serving, "within", lambda _network, work: work())
    file = tmp_path / "traffic"
    file.write_bytes(b"program" * 1000)
    with served(file, -1, "127.0.0.1") as url, urlopen(url) as answer:
        assert answer.read() == file.read_bytes()
        assert url.endswith("/traffic")
    script = SCRIPT.format(url=url, port=7000)
    assert script.startswith("#!/bin/sh\n")
    assert f"wget -q -O traffic {url} " in script
