"""A check of histories in the manner of Elle: transactions append to lists and read them, and the reads tell the order of all appends.

Every append is unique, so the final value of a list is the order of its writers, and a read shows between which two of them the reader
stands. That gives the dependencies: ww (the next writer of a list), wr (a reader sees a writer), rw (a writer overwrites what was read).
An isolation level is a condition on the cycles of that graph (Adya; for snapshot isolation: Cerone and Gotsman).
"""

import dataclasses
from collections import defaultdict
from itertools import pairwise

import networkx


@dataclasses.dataclass
class Txn:
    """One transaction, as its client saw it."""

    name: str
    reads: list[tuple[str, tuple[str, ...]]] = dataclasses.field(default_factory=list)
    """Lists that it read, without its own appends."""
    appends: dict[str, list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    outcome: str = "unknown"
    """`committed`, `failed` or `unknown`."""


def anomalies(history: list[Txn], final: dict[str, tuple[str, ...]], level: str) -> list[str]:
    """Return the anomalies that the level does not allow."""
    found = _lists(history, final)
    return found or _cycles(history, final, level)


def _lists(history: list[Txn], final: dict[str, tuple[str, ...]]) -> list[str]:
    found = []
    for key, values in final.items():
        if len(set(values)) != len(values):
            found.append(f"{key}: an append twice: {values}")
    for txn in history:
        for key, appended in txn.appends.items():
            there = [value for value in appended if value in final[key]]
            if txn.outcome == "committed" and there != appended:
                found.append(f"{txn.name}: committed, and lost in {key}: {appended}, {final[key]}")
            if txn.outcome == "failed" and there:
                found.append(f"{txn.name}: failed, and appended to {key}: {appended}")
            if there:
                at = final[key].index(there[0])
                if list(final[key][at : at + len(there)]) != there:
                    found.append(f"{txn.name}: its appends to {key} are not together: {final[key]}")
        if txn.outcome == "committed":
            found += [
                f"{txn.name}: read {seen} of {key}, which was never so: {final[key]}"
                for key, seen in txn.reads
                if seen != final[key][: len(seen)]
            ]
    return found


def _cycles(history: list[Txn], final: dict[str, tuple[str, ...]], level: str) -> list[str]:
    writer = {value: txn.name for txn in history for appended in txn.appends.values() for value in appended}
    dependencies, rw = networkx.DiGraph(), networkx.DiGraph()
    for values in final.values():
        dependencies.add_edges_from((writer[a], writer[b]) for a, b in pairwise(values) if writer[a] != writer[b])
    for txn in history:
        for key, seen in txn.reads if txn.outcome == "committed" else ():
            if seen and writer[seen[-1]] != txn.name:
                dependencies.add_edge(writer[seen[-1]], txn.name)
            following = [value for value in final[key][len(seen) :] if writer[value] != txn.name]
            if following:
                rw.add_edge(txn.name, writer[following[0]])
    graph = networkx.DiGraph(dependencies)
    if level == "serializable":
        graph.add_edges_from(rw.edges)
    elif level == "snapshot":
        graph.add_edges_from((a, c) for a, b in dependencies.edges if b in rw for c in rw.successors(b))
    try:
        return [f"{level}: a cycle: {networkx.find_cycle(graph)}"]
    except networkx.NetworkXNoCycle:
        return []
