"""The experiment: two sites and one link, with every emulator that this machine supports."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from atoll.bench.failure import failed
from atoll.bench.progress import Say
from atoll.bench.wan.programs import Iperf, ping, received_mbit_s
from atoll.bench.wan.report import summary
from atoll.bench.workspace import Workspace
from atoll.cloud.network import Network, Node, Wire
from atoll.errors import AtollError
from atoll.wan.client import Wan, WanOptions
from atoll.wan.probe import Echo

EMULATORS = ("netem", "userspace")
"""The emulators in order of preference: the first that works is used."""

NEAR, FAR, LINK = "near", "far", "near:far"
_HEADERS = 28  # bytes of the IP and UDP headers
_PAYLOAD = 1472
_PING_INTERVAL_S = 0.005
_OMIT_S = 1
_ATTEMPTS = 5


@dataclass(frozen=True)
class EmulationOptions:
    """The size of the experiment.

    Attributes:
        rtts_ms: the round trips to request, in milliseconds.
        losses: the one-way probabilities of loss, from 0 to 1.
        rates_mbit: the rates in megabits per second.
        packets: the number of pings for each round trip and each loss.
        seconds: the length of each measurement of a rate, in seconds.
        cuts: the number of cuts and heals.
        seed: the seed of the userspace emulator.
    """

    rtts_ms: tuple[float, ...] = (0, 1, 20, 100, 300)
    losses: tuple[float, ...] = (0, 0.01, 0.05)
    rates_mbit: tuple[float, ...] = (10, 100, 1000)
    packets: int = 400
    seconds: float = 4
    cuts: int = 3
    seed: int = 0


@dataclass
class Samples:
    """The measurements with one emulator.

    Attributes:
        pings: the requested `rtt_ms` and `loss`; the mean `measured_ms`; the numbers `sent` and `lost`.
        rates: the requested `rate_mbit` and `rtt_ms`; `measured_mbit`; and `offered_mbit`, the rate sent into the link.
        capacity: `gbit_s`, `packets_per_s`, and the share of one core that the emulator's process used.
        cuts: `cut_ms` and `heal_ms` of each cut.
    """

    pings: list[dict[str, Any]] = field(default_factory=list)
    rates: list[dict[str, Any]] = field(default_factory=list)
    capacity: dict[str, Any] = field(default_factory=dict)
    cuts: list[dict[str, float]] = field(default_factory=list)


def run(options: EmulationOptions, work: Workspace) -> dict[str, Any]:
    """Measure every emulator; the machine should otherwise be idle.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        For each emulator, its values by name, or the reason why it was `skipped`; on the top level, the values of the emulator in use.

    Raises:
        AtollError: `bench.failed`: a measurement failed; `wan.unavailable`: no emulator works.
    """
    report: dict[str, Any] = {}
    reason: AtollError | None = None
    for name in EMULATORS:
        directory = work.root / name
        directory.mkdir(mode=0o700)
        try:
            with _wan(directory, name, options.seed) as wan:
                work.say(f"emulator {name}")
                report[name] = summary(_measure(wan, options, work.say))
        except AtollError as error:
            if error.kind.code != "wan.unavailable":
                raise
            work.say(f"emulator {name} skipped: {error.message}")
            report[name], reason = {"skipped": error.message}, error
    used = next((name for name in EMULATORS if "skipped" not in report[name]), None)
    if used is None:
        assert reason is not None
        raise reason
    top = {key: value for key, value in report[used].items() if key != "samples"}
    return {"emulator": used, **top, **report}


@contextmanager
def _wan(directory: Path, emulator: str, seed: int) -> Iterator[Wan]:
    nodes = (Node(NEAR), Node(FAR))
    network = Network(nodes, {(NEAR, FAR): Wire(), (FAR, NEAR): Wire()})
    wan = Wan.start(directory, network, WanOptions(emulator=emulator, seed=seed))
    try:
        yield wan
    finally:
        wan.close()


def _measure(wan: Wan, options: EmulationOptions, say: Say) -> Samples:
    samples = Samples()
    say("large packets, small packets")
    samples.capacity = _capacity(wan, options.seconds)
    for rtt_ms in options.rtts_ms:
        for loss in options.losses:
            say(f"round trip of {rtt_ms:g} ms, loss of {100 * loss:g} %")
            samples.pings.append(_ping(wan, rtt_ms, loss, options.packets))
    for rate_mbit in options.rates_mbit:
        for rtt_ms in (min(options.rtts_ms), max(options.rtts_ms)):
            say(f"{rate_mbit:g} Mbit/s, round trip of {rtt_ms:g} ms")
            samples.rates.append(_rate(wan, rate_mbit, rtt_ms, options.seconds))
    say("cutting and healing")
    samples.cuts = [_cut(wan) for _ in range(options.cuts)]
    return samples


def _set(wan: Wan, there: Wire, back: Wire) -> None:
    wan.set(LINK, there.to_json(), one_way=True)
    wan.set(":".join(reversed(LINK.split(":"))), back.to_json(), one_way=True)


def _ping(wan: Wan, rtt_ms: float, loss: float, count: int) -> dict[str, Any]:
    _set(wan, Wire(delay_ms=rtt_ms / 2, loss=loss), Wire(delay_ms=rtt_ms / 2))
    found = ping(wan, NEAR, wan.addresses[FAR], count, _PING_INTERVAL_S)
    if found.rtt_ms is None:
        raise failed("all pings were lost")
    return {"rtt_ms": rtt_ms, "loss": loss, "measured_ms": found.rtt_ms, "sent": found.sent, "lost": found.lost}


def _rate(wan: Wan, rate_mbit: float, rtt_ms: float, seconds: float) -> dict[str, Any]:
    """Return the measured rate of a full link. On a busy machine, repeat the measurement until more is sent than the link can carry.

    Raises:
        AtollError: `bench.failed`: no attempt sent more than the link can carry.
    """
    _set(wan, Wire(delay_ms=rtt_ms / 2, rate_mbit=rate_mbit), Wire(delay_ms=rtt_ms / 2))
    for _attempt in range(_ATTEMPTS):
        received, offered = _flood(wan, rate_mbit, seconds)
        if offered >= rate_mbit:
            return {"rate_mbit": rate_mbit, "rtt_ms": rtt_ms, "measured_mbit": received, "offered_mbit": offered}
    text = f"the machine is too busy: no more than {offered:.0f} Mbit/s could be sent into a link of {rate_mbit:g} Mbit/s"
    raise failed(text, "run the experiment again on an idle machine")


def _flood(wan: Wan, rate_mbit: float, seconds: float) -> tuple[float, float]:
    """Return the received and the sent rate, in megabits of IP packets per second.

    The receiver is the client, because only clients report each interval.
    """
    words = f"--reverse --udp --length {_PAYLOAD} --bitrate {1.15 * rate_mbit:.1f}M --window 4M --omit {_OMIT_S} --time {seconds:g}"
    with Iperf(wan, NEAR) as server, server.start(FAR, [*words.split(), "--interval", "0.5"]) as client:
        time.sleep(_OMIT_S)
        counted = _count(wan, seconds - _OMIT_S / 2)
        report = server.report(client, seconds)
    return received_mbit_s(report) * (_PAYLOAD + _HEADERS) / _PAYLOAD, 8 * counted["bytes_in"] / 1e6


def _count(wan: Wan, seconds: float) -> dict[str, float]:
    """Return the increase of the link's counters per second."""
    before, begun = wan.counters()[LINK], time.monotonic()
    time.sleep(seconds)
    after, elapsed = wan.counters()[LINK], time.monotonic() - begun
    return {name: (after[name] - before[name]) / elapsed for name in after}


def _capacity(wan: Wan, seconds: float) -> dict[str, Any]:
    """Measure the capacity of a link without delay, loss and limit."""
    _set(wan, Wire(), Wire())
    process = psutil.Process(wan.describe()["pid"])
    with Iperf(wan, FAR) as server, _core(process) as large:
        words = ["--time", f"{seconds:g}", "--omit", str(_OMIT_S)]
        report = server.report(server.start(NEAR, words), seconds)
    gbit_s = float(report["end"]["sum_received"]["bits_per_second"]) / 1e9
    with (
        Iperf(wan, FAR) as server,
        server.start(NEAR, ["--udp", "--length", "64", "--bitrate", "0", "--time", f"{seconds + 2:g}"]) as client,
    ):
        time.sleep(1)
        with _core(process) as small:
            counted = _count(wan, seconds)
        client.communicate()
    return {"gbit_s": gbit_s, "packets_per_s": counted["packets_out"], "core_large": large["core"], "core_small": small["core"]}


@contextmanager
def _core(process: psutil.Process) -> Iterator[dict[str, float]]:
    """Yield a mapping; when the context ends, add the share of one core that a process has used in the context."""
    used: dict[str, float] = {}
    before, begun = process.cpu_times(), time.monotonic()
    yield used
    after = process.cpu_times()
    used["core"] = (after.user + after.system - before.user - before.system) / (time.monotonic() - begun)


def _cut(wan: Wan) -> dict[str, float]:
    """Cut the link while packets flow, heal it, and measure when packets stopped and resumed."""
    interval_s, count, rtt_ms = 0.002, 750, 60.0
    _set(wan, Wire(delay_ms=rtt_ms / 2), Wire(delay_ms=rtt_ms / 2))
    found: list[Echo] = []
    prober = threading.Thread(target=lambda: found.extend(wan.probe([(NEAR, FAR)], count, interval_s)[NEAR, FAR]))
    prober.start()
    time.sleep(0.5)
    cut_s = time.monotonic()
    wan.cut(LINK)
    time.sleep(0.4)
    heal_s = time.monotonic()
    wan.heal(LINK)
    prober.join()
    return cut_times(found, cut_s, heal_s)


def cut_times(found: Sequence[Echo], cut_s: float, heal_s: float) -> dict[str, float]:
    """Return the durations of a cut and a heal.

    Args:
        found: the packets that were sent before, during and after the cut.
        cut_s: the time of the cut, in seconds of the monotonic clock.
        heal_s: the time of the heal, in seconds of the same clock.

    Returns:
        `cut_ms`: milliseconds from the cut until the last packet arrived; `heal_ms`: milliseconds from the heal until the first arriving
        packet was sent.

    Raises:
        AtollError: `bench.failed`: no packet arrived before the cut, or none after the heal.
    """
    through = [(echo.sent_s, echo.rtt_ms) for echo in found if echo.rtt_ms is not None]
    before, after = [each for each in through if each[0] < heal_s], [sent for sent, _rtt in through if sent >= heal_s]
    if not before or not after:
        raise failed("no packet arrived before the link was cut, or none after it was healed")
    last = max(sent + rtt / 1e3 for sent, rtt in before)
    return {"cut_ms": max(0.0, 1e3 * (last - cut_s)), "heal_ms": 1e3 * (min(after) - heal_s)}


def as_table(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return a table of the emulator in use: property, requested value, measured value."""
    samples = report[report["emulator"]]["samples"]
    rows = [
        (f"round trip, loss {100 * item['loss']:g} %", f"{item['rtt_ms']:g} ms", f"{item['measured_ms']:.2f} ms")
        for item in samples["pings"]
    ]
    rows += [
        (f"loss, round trip {item['rtt_ms']:g} ms", f"{100 * item['loss']:g} %", f"{item['lost']} of {item['sent']}")
        for item in samples["pings"]
    ]
    rows += [
        (f"rate, round trip {item['rtt_ms']:g} ms", f"{item['rate_mbit']:g} Mbit/s", f"{item['measured_mbit']:.1f} Mbit/s")
        for item in samples["rates"]
    ]
    return rows
