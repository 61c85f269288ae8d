"""Predictions of the time that an operation takes with other delays between sites, or with services at other sites.

The model replays the tree. A call begins after the calls that ended before its recorded start; if these take longer, it begins later by as
much. A call to another site takes one round trip longer. A message without a reply reaches its receiver half a round trip later. Calls that
ran at the same time still do. A thread does not wait for calls of the thread that started it, except for those that ended before its own
first call. No call waits for queued work (`UNAWAITED`). The model leaves out new connections, bandwidth and loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atoll.trace import tasks
from atoll.trace.attributes import TASK, UNAWAITED
from atoll.trace.tree import Node, Trace

_CALLERS = frozenset(("client", "producer"))
_SERVERS = frozenset(("server", "consumer"))


@dataclass(frozen=True)
class Prediction:
    """The recorded and the predicted times of an operation, which is complete at the end of its last span, or of a chosen span.

    Attributes:
        answered_ms, complete_ms: milliseconds until the client has its answer, and until the operation is complete, as recorded.
        predicted_answered_ms, predicted_complete_ms: the same two times as predicted with the other delays, in milliseconds.
        round_trips_answered, round_trips_complete: sequential round trips between sites until these two moments.
        crossings: the number of calls between sites, including calls made at the same time.
        crossing_bytes: bytes of these calls' requests and answers together; unknown sizes count as 0.
    """

    answered_ms: float
    complete_ms: float
    predicted_answered_ms: float
    predicted_complete_ms: float
    round_trips_answered: float
    round_trips_complete: float
    crossings: int
    crossing_bytes: int


@dataclass
class _Growth:
    """The additional delays, in round trips, of a span's beginning, of its end, and of the end of all work below it."""

    start: float
    end: float
    complete: float


def predict(
    trace: Trace, rtt_ms: float, places: Mapping[str, str] | None = None, recorded_rtt_ms: float = 0.0, until: str = ""
) -> Prediction:
    """Return a prediction of the times of a trace.

    Args:
        trace: the recorded trace.
        rtt_ms: the round trip between any two sites, in milliseconds.
        places: for each service, or part of Nova, that is assumed to be at another site, the name of that site.
        recorded_rtt_ms: the round trip between the sites when the trace was recorded, in milliseconds.
        until: the end of a span's name, such as `Instance.save`. The operation is complete with the last span that has such a name; empty
            for the last span of all.

    Raises:
        ValueError: no span has a name that ends in `until`.
    """
    moved = dict(places or {})
    root = trace.roots[0]
    now = _replay(root, {})
    then = _replay(root, moved)
    last = [node for node in root.walk() if node.span.name.endswith(until)]
    if not last:
        raise ValueError(f"no span has a name that ends in {until!r}")
    start, answered, complete = trace.start, root.end, max(node.end for node in last)

    def predicted(recorded: int, before: float, after: float) -> float:
        return (recorded - start) / 1e6 - before * recorded_rtt_ms + after * rtt_ms

    # With other delays, another span may end last.
    ends = [predicted(node.end, now[id(node)].end, then[id(node)].end) for node in last]
    crossings = [node for node in root.walk() if _crosses(node, moved)]
    return Prediction(
        answered_ms=(answered - start) / 1e6,
        complete_ms=(complete - start) / 1e6,
        predicted_answered_ms=predicted(answered, now[id(root)].end, then[id(root)].end),
        predicted_complete_ms=max(ends),
        round_trips_answered=then[id(root)].end,
        round_trips_complete=max(then[id(node)].end for node in last) if until else then[id(root)].complete,
        crossings=len(crossings),
        crossing_bytes=sum(map(_bytes, crossings)),
    )


def _site(node: Node, moved: Mapping[str, str]) -> str:
    return moved.get(node.role, moved.get(node.span.service, node.span.site))


def _crosses(node: Node, moved: Mapping[str, str]) -> bool:
    """Return whether a node is the receiving end of a call between sites."""
    parent = node.parent
    return node.span.kind in _SERVERS and parent is not None and bool(parent.span.site) and _site(node, moved) != _site(parent, moved)


def _bytes(node: Node) -> int:
    """Return the bytes of a call both ways: as its caller counted them, otherwise as its receiver did."""
    parent = node.parent
    sides = [node.span] if parent is None or parent.span.kind not in _CALLERS else [parent.span, node.span]
    counted = next((side for side in sides if side.request is not None or side.response is not None), None)
    return 0 if counted is None else (counted.request or 0) + (counted.response or 0)


def _replay(root: Node, moved: Mapping[str, str]) -> dict[int, _Growth]:
    """Return the delay of each span's begin and end if services move to other sites, in round trips between sites."""
    own: dict[int, _Growth] = {}
    # First relative to each span's own start, from the leaves up.
    for node in reversed(list(root.walk())):
        ended: list[tuple[Node, float]] = []
        begun = _begun(node.children)
        grows = complete = 0.0
        for child in node.children:
            late = max((growth for call, growth in ended if _waits(child, call, begun)), default=0.0)
            far = _crosses(child, moved)
            growth = own[id(child)]
            growth.start = late + (0.5 if far else 0.0)
            ends = growth.start + growth.end + (0.5 if far else 0.0)
            complete = max(complete, growth.start + growth.complete)
            if child.span.attributes.get(UNAWAITED):
                continue
            if node.span.kind == "producer":
                # The sender waits only for the acknowledgement, not for the receiver's work.
                ends = late + (1.0 if far else 0.0)
                grows = max(grows, ends)
                continue
            ended.append((child, ends))
            # A receiver may record its end a little after its answer has arrived, although its caller has waited for it.
            answers = node.span.kind == "client" and child.span.kind in _SERVERS
            if answers or child.end <= node.end:
                grows = max(grows, ends)
        own[id(node)] = _Growth(0.0, grows, max(complete, grows))
    result: dict[int, _Growth] = {}
    for node in root.walk():
        growth = own[id(node)]
        start = growth.start + (result[id(node.parent)].start if node.parent is not None and node is not root else 0.0)
        result[id(node)] = _Growth(start, start + growth.end, start + growth.complete)
    return result


def _task(node: Node) -> str:
    return str(node.span.attributes.get(TASK, ""))


def _begun(calls: Iterable[Node]) -> dict[str, int]:
    """Return the start of the first call of each task and of the tasks below it, by the task's path."""
    begun: dict[str, int] = {}
    for call in calls:
        path = _task(call)
        while path:
            begun[path] = min(begun.get(path, call.start), call.start)
            path = path.rpartition(".")[0]
    return begun


def _waits(call: Node, earlier: Node, begun: Mapping[str, int]) -> bool:
    """Return whether a call may have waited for an earlier one of the same span.

    Args:
        call: the call.
        earlier: a call that began before it.
        begun: the start of the first call of each task.
    """
    own, other = _task(call), _task(earlier)
    if tasks.is_below(other, own):
        return earlier.end <= call.start
    return earlier.end <= begun.get(tasks.branch(own, other), call.start)
