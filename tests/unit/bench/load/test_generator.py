"""The load generator against a local server with known delays: its accuracy, its rates, its own processor time, and stalls that count."""

import socket
import statistics
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.bench.load import generator
from atoll.bench.load.arrivals import arrivals
from atoll.bench.load.generator import Call, ClosedLoop, OpenLoop, Source, generate

ACCURACY_S = 0.002


@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("delayed_server.py"))], stdout=subprocess.PIPE, text=True
    ) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture
def took(monkeypatch):
    """The seconds that the server took for each answer, in the order in which they were read."""
    found = []
    original = aiohttp.ClientResponse.read

    async def read(answer):
        content = await original(answer)
        found.append(float(answer.headers["X-Took"]))
        return content

    monkeypatch.setattr(aiohttp.ClientResponse, "read", read)
    return found


@given(st.sampled_from(["poisson", "constant"]), st.floats(1, 200), st.floats(0.1, 5), st.integers(0, 99))
def test_arrivals_are_in_order_and_repeat_with_the_seed(kind, rate, seconds, seed):
    starts = list(arrivals(kind, rate, seconds, seed))
    assert starts == sorted(starts)
    assert all(0 <= start < seconds for start in starts)
    assert starts == list(arrivals(kind, rate, seconds, seed))


def test_constant_arrivals_are_equally_far_apart():
    starts = list(arrivals("constant", 10, 100, 0))
    assert len(starts) == 1000
    assert starts[999] == 99.9


def test_poisson_arrivals_have_the_rate_and_exponential_gaps():
    starts = list(arrivals("poisson", 50, 400, 1))
    assert len(starts) == pytest.approx(20_000, rel=0.03)
    gaps = [after - before for before, after in pairwise(starts)]
    # Of an exponential distribution, mean and standard deviation are equal
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)


@pytest.mark.parametrize(("kind", "rate"), [("uniform", 1), ("poisson", 0)])
def test_other_arrivals_are_refused(kind, rate):
    with pytest.raises(ValueError, match="expected one of poisson, constant at a rate above 0"):
        list(arrivals(kind, rate, 1, 0))


@pytest.mark.parametrize("delay_ms", [5, 50])
def test_latencies_are_those_of_the_server(server, took, delay_ms):
    samples = generate([Source("paris", [Call("get", "GET", f"{server}/{delay_ms}")])], OpenLoop(40, 2.0, "constant"))
    assert len(samples) == 80
    assert all(sample.ok for sample in samples)
    extra = [sample.ended_s - sample.intended_s - real for sample, real in zip(samples, took, strict=True)]
    # On a busy machine most wait for a processor; an error of the generator itself is in the quickest as well
    assert min(extra) >= 0
    assert statistics.quantiles(extra, n=20)[0] <= ACCURACY_S


def test_200_requests_a_second_take_less_than_one_core(server):
    used, begun = time.process_time(), time.monotonic()
    samples = generate([Source(name, [Call("get", "GET", f"{server}/1")]) for name in ("paris", "lyon")], OpenLoop(100, 5.0))
    used, elapsed = time.process_time() - used, time.monotonic() - begun
    assert sum(sample.ok for sample in samples) == pytest.approx(1000, rel=0.1)
    assert {sample.site for sample in samples} == {"paris", "lyon"}
    assert used < elapsed, f"{used:.2f} s of processor time in {elapsed:.2f} s"


def test_a_stall_lengthens_all_requests_that_should_have_started(server):
    stall = threading.Timer(0.5, lambda: generate([Source("x", [Call("stall", "GET", f"{server}/stall/1000")])], ClosedLoop(1, 0.01)))
    stall.start()
    samples = generate([Source("paris", [Call("get", "GET", f"{server}/1")])], OpenLoop(50, 2.5, "constant"))
    stall.join()
    late = [sample for sample in samples if sample.ended_s - sample.intended_s > 0.5]
    # A second has 50 starts; those of its first half wait for longer than half a second
    assert 15 <= len(late) <= 75


def test_latencies_include_the_lateness_of_the_generator(server, monkeypatch):
    original, blocked = generator._Sender.wait_until, []

    async def late(sender, at):
        await original(sender, at)
        if not blocked:
            blocked.append(time.sleep(0.3))

    monkeypatch.setattr(generator._Sender, "wait_until", late)
    samples = generate([Source("paris", [Call("get", "GET", f"{server}/1")])], OpenLoop(20, 0.5, "constant"))
    assert sum(sample.ended_s - sample.intended_s > 0.1 for sample in samples) >= 3


def test_users_of_a_closed_loop_wait_for_their_answers(server):
    samples = generate([Source("paris", [Call("get", "GET", f"{server}/50")])], ClosedLoop(users=2, seconds=1.0))
    assert 10 <= len(samples) <= 40
    assert all(sample.started_s >= sample.intended_s for sample in samples)


def test_users_think(server):
    eager = generate([Source("paris", [Call("get", "GET", f"{server}/1")])], ClosedLoop(users=5, seconds=1.0))
    slow = generate([Source("paris", [Call("get", "GET", f"{server}/1")])], ClosedLoop(users=5, seconds=1.0, think_s=0.2))
    assert 5 <= len(slow) <= 50
    assert len(slow) < len(eager)


def test_calls_take_turns_and_failures_are_samples(server):
    calls = [Call("good", "POST", f"{server}/1", body={"a": 1}), Call("bad", "GET", f"{server}/1?status=503")]
    samples = generate([Source("paris", calls)], OpenLoop(20, 0.5, "constant"))
    assert {(sample.operation, sample.ok, sample.error) for sample in samples} == {("good", True, ""), ("bad", False, "HTTP 503")}
    assert [sample.operation for sample in samples].count("good") == 5


def test_a_server_that_is_away_is_a_failure():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        samples = generate([Source("paris", [Call("get", "GET", url)])], OpenLoop(10, 0.3, "constant"))
    assert len(samples) == 3
    assert all(not sample.ok and sample.error.startswith("ClientConnector") for sample in samples)


def test_an_answer_that_never_comes_is_a_failure(server):
    samples = generate([Source("paris", [Call("get", "GET", f"{server}/5000")])], OpenLoop(10, 0.1, "constant"), timeout_s=0.3)
    assert [sample.error.partition(":")[0] for sample in samples] == ["TimeoutError"] or samples[0].error.startswith("Connection")


def test_sockets_may_be_made_elsewhere(server):
    made = []

    def open_socket():
        made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        made[-1].setblocking(False)
        made[-1].bind(("127.0.0.2", 0))
        return made[-1]

    samples = generate([Source("paris", [Call("get", "GET", f"{server}/1")], open_socket)], ClosedLoop(1, 0.2))
    assert samples
    assert all(sample.ok for sample in samples), samples[0].error
    assert len(made) == 1, "connections are kept"
