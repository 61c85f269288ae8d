"""The costs of an operation whose compute host is far from its control plane: given in the plan's file, or derived from a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atoll.errors import AtollError
from atoll.experiment.plan.document import PlannedOperation
from atoll.experiment.quantities import seconds, size_bytes
from atoll.trace.store import Span
from atoll.trace.tree import CLIENT, Node, Trace
from atoll.trace.whatif import predict

COMPUTE = "nova-compute"
_FAR = "the compute site"


@dataclass(frozen=True)
class Costs:
    """The costs of one operation.

    Attributes:
        time_s: the duration of the operation if all its parts are at one site, in seconds.
        round_trips: sequential round trips between the compute site, where user and nova-compute are, and its control site.
        bytes: bytes between these two sites, both directions together.
    """

    time_s: float
    round_trips: float
    bytes: float


def costs(name: str, operation: PlannedOperation, find: Callable[[str], Trace]) -> Costs:
    """Return the costs of an operation.

    Args:
        name: the name of the operation, for errors.
        operation: the operation as the plan's file describes it.
        find: returns the trace that a file, given by its path, holds.

    Raises:
        AtollError: `trace.*`: the operation's trace can't be read, or is incomplete.
    """
    if operation.trace is None:
        assert operation.time is not None
        assert operation.round_trips is not None
        assert operation.bytes is not None
        return Costs(seconds(operation.time), operation.round_trips, size_bytes(operation.bytes))
    try:
        trace = find(operation.trace)
    except AtollError as error:
        raise AtollError(error.kind.code, f"operations.{name}.trace: {error.message}", error.hint) from None
    if len(trace.roots) != 1:
        text = f"{operation.trace} of operation {name} has {len(trace.roots)} roots: expected a whole trace, which has one"
        raise AtollError("trace.invalid", text, "record it again: `atoll trace run -- …`, then `atoll trace export latest`")
    recorded_s = 0.0 if operation.recorded_rtt is None else seconds(operation.recorded_rtt)
    return of_trace(trace, complete=operation.until == "complete", recorded_rtt_s=recorded_s)


def of_trace(trace: Trace, *, complete: bool = True, recorded_rtt_s: float = 0.0) -> Costs:
    """Derive costs from the trace of an operation whose client was at the control site.

    The what-if model (`atoll.trace.whatif`) places the client and nova-compute at a compute site, and counts the round trips and bytes
    between the two sites. It also predicts the duration of the operation without the round trips that were recorded.

    Args:
        trace: a whole trace.
        complete: whether to count until all work is done; otherwise, until the client has its answer.
        recorded_rtt_s: the round trip between the sites of the trace when it was recorded, in seconds.
    """
    near = predict(trace, 0.0, recorded_rtt_ms=1e3 * recorded_rtt_s)
    far = predict(_with_client(trace), 0.0, {COMPUTE: _FAR})
    if complete:
        return Costs(max(0.0, near.predicted_complete_ms) / 1e3, far.round_trips_complete, far.crossing_bytes)
    return Costs(max(0.0, near.predicted_answered_ms) / 1e3, far.round_trips_answered, far.crossing_bytes)


def _with_client(trace: Trace) -> Trace:
    """Return the trace below an added root span for the client at the compute site, because no store has the client's own span."""
    root = trace.roots[0]
    if root.span.service == CLIENT:
        client = Node(root.span._replace(site=_FAR), role=CLIENT)
        children = root.children
    else:
        span = Span(trace.id, "0" * 16, "", "internal", CLIENT, CLIENT, _FAR, root.start, root.end, None, None, None, {})
        client, children = Node(span, role=CLIENT), [root]
    client.children = [_copy(child, client) for child in children]
    return Trace(trace.id, [client], trace.orphans)


def _copy(node: Node, parent: Node) -> Node:
    """Return a copy of a tree of spans below a new parent, so that the original tree does not change."""
    top = Node(node.span, parent, [], node.shift, node.role)
    waiting = [(node, top)]
    while waiting:
        old, new = waiting.pop()
        for child in old.children:
            made = Node(child.span, new, [], child.shift, child.role)
            new.children.append(made)
            waiting.append((child, made))
    return top
