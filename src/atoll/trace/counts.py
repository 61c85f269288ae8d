"""The control traffic of an operation as counts: HTTP calls, messages, statements and bytes, from its trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from atoll.trace import analysis
from atoll.trace.tree import Node, Trace

GATEWAY = "gateway"


@dataclass(frozen=True)
class Counts:
    """The control traffic of one operation.

    Attributes:
        http: the number of HTTP calls by caller and callee, such as `nova-compute -> neutron`.
        rpc: the number of messages by sender and receiver, without replies.
        sql: the number of statements by service, without commits.
        commits: the number of commits in databases.
        bytes: the bytes of all requests, answers and messages, without those of databases.
    """

    http: Mapping[str, int]
    rpc: Mapping[str, int]
    sql: Mapping[str, int]
    commits: int
    bytes: int

    def to(self, callee: str) -> int:
        """Return the number of HTTP calls to a service."""
        return sum(count for pair, count in self.http.items() if pair.endswith(f" -> {callee}"))

    @property
    def totals(self) -> dict[str, int]:
        """The total of each kind of traffic, by its name."""
        return {
            "http_calls": sum(self.http.values()),
            "neutron_calls": self.to("neutron"),
            "placement_calls": self.to("placement"),
            "rpc_messages": sum(self.rpc.values()),
            "sql_statements": sum(self.sql.values()),
            "commits": self.commits,
            "bytes": self.bytes,
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything, ready for `json.dumps`."""
        return {**self.totals, **asdict(self)}


def count(traces: Iterable[Trace]) -> Counts:
    """Return counts of the control traffic of traces.

    A service's request that a gateway forwards is counted once, as a call of the service that answers it. A client's request is not
    counted, neither when it arrives at the gateway nor when the gateway forwards it.

    Args:
        traces: the traces of one operation.
    """
    http: Counter[str] = Counter()
    rpc: Counter[str] = Counter()
    sql: Counter[str] = Counter()
    commits = size = 0
    for node in (each for trace in traces for each in trace.walk() if each.span.kind in analysis.CALLS):
        protocol = analysis.protocol(node.span)
        if protocol == "sql":
            if node.span.name.startswith("COMMIT"):
                commits += 1
            else:
                sql[node.role] += 1
        elif protocol in {"http", "rpc"} and node.role != GATEWAY:
            pair = f"{node.role} -> {_answering(node)}"
            (http if protocol == "http" else rpc)[pair] += 1
            size += (node.span.request or 0) + (node.span.response or 0)
    return Counts(dict(sorted(http.items())), dict(sorted(rpc.items())), dict(sorted(sql.items())), commits, size)


def _answering(node: Node) -> str:
    """Return the service that answers a call: the callee, or, if the callee is a gateway, the service to which it forwards the call."""
    role = analysis.callee(node).partition("/")[2]
    if role != GATEWAY:
        return role
    behind = [each for child in node.children for each in child.children if each.span.kind == "client" and each.role == GATEWAY]
    return analysis.callee(behind[0]).partition("/")[2] if behind else role
