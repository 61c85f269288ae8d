"""The traffic program over the loopback interface, and the parsing of its output."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.bench.guests import traffic
from atoll.bench.guests.traffic import DATAGRAMS, PACKETS, STREAM, Count, End, Load, await_agent, compiled, measure, parse, sample
from atoll.errors import AtollError

SECONDS = 0.2
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("traffic"))


@pytest.fixture
def end(program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[End]:
    """Run an agent on this machine in the test's own network, which needs no privileges."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    monkeypatch.setattr(traffic, "AGENT_PORT", ports[0])
    monkeypatch.setattr(traffic, "TRAFFIC_PORT", ports[1])
    monkeypatch.setattr(traffic, "within", lambda _network, work: work())
    process = subprocess.Popen([program, "agent", str(ports[0])], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        found = End(-1, "127.0.0.1", "127.0.0.1")
        await_agent(found, 30)
        yield found
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@needs_compiler
@pytest.mark.parametrize("load", [STREAM, DATAGRAMS, PACKETS], ids=lambda load: load.name)
def test_sent_traffic_arrives_and_is_counted(end: End, load: Load):
    found = measure(end, end, load, SECONDS)
    assert found.gbit_s > 0
    assert (found.packets_s > 0) == (load.transport == "udp")
    assert 0 <= found.lost < 1


@needs_compiler
def test_agent_says_what_is_wrong(end: End):
    with pytest.raises(AtollError, match="error: expected receive"):
        measure(end, end, Load("large", "udp", 1_000_000), SECONDS)
    with pytest.raises(AtollError, match=r"error: expected receive"):
        measure(end, end, Load("other", "sctp", 64), SECONDS)


def test_agent_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(traffic, "within", lambda _network, work: work())
    monkeypatch.setattr(traffic, "AGENT_PORT", 1)
    nobody = End(-1, "127.0.0.1", "127.0.0.1")
    with pytest.raises(AtollError, match=r"the agent at 127\.0\.0\.1 does not answer"):
        measure(nobody, nobody, STREAM, SECONDS)


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AtollError, match="needs a C compiler") as caught:
        compiled(tmp_path)
    assert caught.value.kind.code == "bench.requirement"


def test_compiler_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho cannot find -lc >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(AtollError, match="cannot find -lc"):
        compiled(tmp_path)


def test_the_output_of_an_end_is_parsed():
    assert parse("bytes=1400 packets=1 seconds=0.500000\n") == Count(1400, 1, 0.5)
    with pytest.raises(AtollError, match="error: accept: Resource temporarily unavailable"):
        parse("error: accept: Resource temporarily unavailable\n")
    with pytest.raises(AtollError, match="the agent has ended"):
        parse("")


def test_rates_are_computed_from_received_data_and_its_time():
    found = sample(Count(4000, 40, 1.0), Count(3000, 30, 2.0))
    assert (found.gbit_s, found.packets_s, found.lost) == (3000 * 8 / 2 / 1e9, 15, 0.25)


def test_single_datagram_takes_the_time_of_who_sent_it():
    assert sample(Count(64, 1, 0.5), Count(64, 1, 0.0)).packets_s == 2
