"""The userspace emulator's data path: a compiled loop that runs in a thread of its own, without the interpreter's lock."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, dataclass
from importlib import import_module
from ipaddress import IPv4Network
from typing import Any

from atoll.cloud.network import Wire
from atoll.errors import AtollError

NODES = 256
"""Greatest number of nodes, sites and routers together: a node's number is the third byte of its address."""

WIRES = 16384

QUEUE_MS = 50.0
"""Milliseconds that a packet may wait in the queue of a link with a limited rate; packets that would wait longer are dropped."""

MTU = 1500
_QUEUE_PACKETS = 20  # least length of a queue in packets, because a queue of 50 ms at 64 kbit/s would not hold one packet


@dataclass(frozen=True)
class Counters:
    """Traffic of one direction of a link.

    Attributes:
        packets_in: packets that the sender offered.
        bytes_in: bytes of the IP packets that the sender offered.
        packets_out: packets that the other end received.
        bytes_out: bytes of the IP packets that the other end received.
        lost: packets lost at random, as configured.
        overflowed: packets dropped because the queue was full.
        cut: packets dropped because the link was cut.
    """

    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    lost: int = 0
    overflowed: int = 0
    cut: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)


def library() -> Any:
    """Return the compiled module.

    Raises:
        AtollError: `wan.unavailable`: the module was not compiled.
    """
    try:
        return import_module("atoll.wan._datapath")
    except ImportError:
        hint = "install gcc and python3-dev, then run `make install` again"
        raise AtollError("wan.unavailable", "the userspace emulator was not compiled", hint) from None


def queue_ms(wire: Wire) -> float:
    """Return the milliseconds that a packet may wait in the queue of a link with a limited rate."""
    if wire.rate_mbit is None:
        return QUEUE_MS
    return max(QUEUE_MS, _QUEUE_PACKETS * MTU * 8 / (wire.rate_mbit * 1e3))


def options(wire: Wire, *, up: bool = True) -> Any:
    """Return the `struct wire_options` of a wire."""
    made = library().ffi.new("struct wire_options *")
    made.delay_ns = round(wire.delay_ms * 1e6)
    made.jitter_ns = round(wire.jitter_ms * 1e6)
    made.queue_ns = round(queue_ms(wire) * 1e6)
    made.rate = 0.0 if wire.rate_mbit is None else wire.rate_mbit * 1e6
    made.loss, made.reorder, made.up = wire.loss, wire.reorder, up
    return made


class Datapath:
    """The loop that moves packets between TUN devices.

    Args:
        network: the network of the nodes' addresses, with a prefix of 16 bits.
        seed: seed of the random numbers for loss and jitter.

    Raises:
        AtollError: `wan.unavailable`: the compiled data path can't be loaded; `wan.failed`: no memory or no descriptors are left.
    """

    def __init__(self, network: IPv4Network, seed: int) -> None:
        module = library()
        self._ffi, self._lib = module.ffi, module.lib
        self._dp = self._lib.dp_new(NODES, WIRES, int(network.network_address), seed & (1 << 64) - 1)
        if self._dp == self._ffi.NULL:
            raise AtollError("wan.failed", "the emulator has no memory or no descriptors left")
        self._thread = threading.Thread(target=self._run, name="datapath", daemon=True)
        self.failure: OSError | None = None

    def start(self) -> None:
        """Start the loop in its thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the loop, and drop the packets in transit."""
        self._lib.dp_stop(self._dp)
        if self._thread.ident is not None:
            self._thread.join()
        self._lib.dp_free(self._dp)

    def attach(self, node: int, descriptor: int | None) -> None:
        """Set the TUN device of a node, whose descriptor must not block; `None` detaches the device before it is closed."""
        self._lib.dp_attach(self._dp, node, -1 if descriptor is None else descriptor)

    def wire(self, number: int, to: int, wire: Wire, *, up: bool) -> None:
        """Set the properties of one direction of a link, which apply even to packets in transit; a cut drops those packets.

        Args:
            number: the number of the wire.
            to: the number of the node at its end.
            wire: the properties.
            up: False if the wire is cut.
        """
        self._lib.dp_wire(self._dp, number, to, options(wire, up=up))

    def route(self, node: int, destination: int, wire: int | None) -> None:
        """Set the wire that packets for a destination take at a node; `None` removes the route."""
        self._lib.dp_route(self._dp, node, destination, -1 if wire is None else wire)

    def counters(self, count: int) -> list[Counters]:
        """Return the counters of the first `count` wires, all read at the same moment."""
        read = self._ffi.new("struct wire_counters[]", count)
        self._lib.dp_counters(self._dp, count, read)
        return [Counters(**{name: getattr(each, name) for name in Counters.__dataclass_fields__}) for each in read]

    @property
    def unroutable(self) -> int:
        """Number of packets whose destination has no route."""
        return int(self._lib.dp_unroutable(self._dp))

    @property
    def under_way(self) -> int:
        """Number of packets in transit on all links."""
        return int(self._lib.dp_under_way(self._dp))

    def _run(self) -> None:
        number = self._lib.dp_run(self._dp)
        if number:
            self.failure = OSError(number, os.strerror(number))
