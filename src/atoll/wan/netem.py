"""The kernel's network emulator, netem: its availability, and its configuration for a wire."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_NEWQDISC, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import sched_netem, tcmsg

from atoll.cloud.network import Wire
from atoll.namespaces import CLONE_NEWNET, unshare
from atoll.wan.datapath import MTU, queue_ms
from atoll.wan.emulator import REFUSALS
from atoll.wan.isolation import in_throwaway_thread

UNLIMITED = 4_000_000_000
"""The rate, in bytes per second, of a link without a limit: netem keeps packets in order under jitter only if some rate is set."""

_LONGEST_QUEUE = 1_000_000
_SHORTEST_QUEUE = 1_000  # packets in the queue and in transit: netem's own default
_LOOPBACK = 1
_LACKING = (errno.ENOENT, errno.EOPNOTSUPP)  # no such kind of queue; no such kind of interface, or no queues at all
_ANSWER = struct.Struct("=IHHIIi")  # a header, and the error


def available() -> bool:
    """Return whether the kernel has netem and veth pairs, by creating one of each in a temporary network namespace.

    The process must be allowed to make network namespaces; see `isolation.gain_networks`.

    Raises:
        OSError, NetlinkError: the kernel refuses for a reason other than that it lacks one of them.
    """

    def ask() -> bool:
        unshare(CLONE_NEWNET)
        try:
            replace(_LOOPBACK, Wire(delay_ms=1), up=True)
            with IPRoute() as ip:
                ip.link("add", ifname="one", kind="veth", peer="other")
        except REFUSALS as error:
            if (error.errno if isinstance(error, OSError) else error.code) not in _LACKING:
                raise
            return False
        return True

    return in_throwaway_thread(ask)


def replace(index: int, wire: Wire, *, up: bool) -> None:
    """Make netem the queue of a device, or reconfigure the netem that is its queue.

    Raises:
        OSError: the kernel refuses; ENOENT means that it has no netem.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.send(message(index, wire, up=up))
        number = -_ANSWER.unpack_from(kernel.recv(4096))[-1]
    if number:
        raise OSError(number, f"netem: {os.strerror(number)}")


def message(index: int, wire: Wire, *, up: bool) -> bytes:
    """Return the netlink message that configures netem.

    pyroute2 builds the message, but does not send it: `IPRoute.tc` of version 0.9.7 adds the rate a second time, as the rate of an
    estimator, which the kernel refuses, and `nlm_request` does not work.
    """
    made = tcmsg()
    made["index"], made["parent"] = index, TC_H_ROOT
    made["attrs"] = [("TCA_KIND", "netem"), ("TCA_OPTIONS", sched_netem.get_parameters(parameters(wire, up=up)))]
    made["header"] = {"type": RTM_NEWQDISC, "flags": NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, "sequence_number": 1}
    made.encode()
    return bytes(made.data)


def parameters(wire: Wire, *, up: bool = True) -> dict[str, Any]:
    """Return a wire as parameters for pyroute2.

    Times are in microseconds, probabilities in percent, the rate in bytes per second, and the length of the queue in packets.
    """
    if not up:
        return {"loss": 100, "limit": _SHORTEST_QUEUE}
    rate = UNLIMITED if wire.rate_mbit is None else wire.rate_mbit * 1e6 / 8
    told = {
        "delay": round(wire.delay_ms * 1e3),
        "jitter": round(wire.jitter_ms * 1e3),
        "loss": 100 * wire.loss,
        "rate": round(rate),
        "limit": _limit(wire),
    }
    if wire.reorder > 0:
        told["prob_reorder"] = 100 * wire.reorder
    return told


def _limit(wire: Wire) -> int:
    """Return the greatest number of packets in transit and in the queue, for packets of the largest size."""
    if wire.rate_mbit is None:
        return _LONGEST_QUEUE
    seconds = (wire.delay_ms + wire.jitter_ms + queue_ms(wire)) / 1e3
    return min(_LONGEST_QUEUE, max(_SHORTEST_QUEUE, round(wire.rate_mbit * 1e6 * seconds / (8 * MTU))))
