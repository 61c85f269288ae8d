"""A trace as a tree of spans: the differences between sites' clocks are corrected, and each span has the role that did its work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from atoll.trace.store import Span

CLIENT = "client"
"""The service of the sender outside the cloud, whose own span no store has."""

ROLES = {"compute": "nova-compute", "compute-alt": "nova-compute", "conductor": "nova-conductor", "scheduler": "nova-scheduler"}
"""The part of Nova that listens to each topic; at a full site all parts are threads of one process."""


@dataclass(eq=False)
class Node:
    """A span in its tree.

    Attributes:
        span: the span, as recorded.
        parent: the node that caused it; `None` for a root.
        children: the nodes that it caused, in the order of their starts.
        shift: nanoseconds to add to the span's times, to convert them from its own site's clock to the clock of the root's site.
        role: the service, or the part of Nova, that did the span's work.
    """

    span: Span
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    shift: int = 0
    role: str = ""

    @property
    def start(self) -> int:
        """Start of the span, in nanoseconds since 1970 by the clock of the root's site."""
        return self.span.start + self.shift

    @property
    def end(self) -> int:
        """End of the span, in nanoseconds since 1970 by the clock of the root's site."""
        return self.span.end + self.shift

    @property
    def place(self) -> str:
        """The place of the span: `SITE/ROLE`."""
        return f"{self.span.site}/{self.role}" if self.span.site else self.role

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, each before its children."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


@dataclass
class Trace:
    """One trace, assembled from all stores.

    Attributes:
        id: the id of the trace.
        roots: the spans that no known span caused. A whole trace has one.
        orphans: the number of roots whose parent was recorded by a process of the cloud, but is in no store.
    """

    id: str
    roots: list[Node]
    orphans: int

    def walk(self) -> Iterator[Node]:
        """Yield all nodes, each before its children."""
        for root in self.roots:
            yield from root.walk()

    @cached_property
    def start(self) -> int:
        """Start of the first span, in nanoseconds since 1970."""
        return min(node.start for node in self.walk())

    @cached_property
    def end(self) -> int:
        """End of the last span, in nanoseconds since 1970."""
        return max(node.end for node in self.walk())

    @property
    def answered(self) -> int:
        """Time at which the client had its answer: the end of the root span, in nanoseconds since 1970."""
        return max(root.end for root in self.roots)


def build(spans: Iterable[Span]) -> Trace:
    """Return the tree of the spans of one trace; a span that is in several stores counts once.

    Raises:
        ValueError: there are no spans, or the spans belong to several traces.
    """
    nodes = {span.span: Node(span) for span in spans}
    if len({node.span.trace for node in nodes.values()}) != 1:
        raise ValueError("expected the spans of one trace")
    roots: list[Node] = []
    for node in nodes.values():
        parent = nodes.get(node.span.parent)
        if parent is None or parent is node or _is_below(parent, node):
            roots.append(node)
        else:
            node.parent = parent
            parent.children.append(node)
    orphans = sum(bool(root.span.parent) and not root.span.attributes.get("atoll.from_outside") for root in roots)
    roots = _joined(roots)
    for root in roots:
        for node in root.walk():
            node.children.sort(key=lambda each: each.span.start)
            _settle(node)
    roots.sort(key=lambda node: node.start)
    return Trace(next(iter(nodes.values())).span.trace, roots, orphans)


def _is_below(node: Node, ancestor: Node) -> bool:
    """Return whether `node` is below `ancestor`, in which case the link would close a circle; only a damaged store has one."""
    above: Node | None = node
    while above is not None:
        if above is ancestor:
            return True
        above = above.parent
    return False


def _joined(roots: list[Node]) -> list[Node]:
    """Join several requests of one client below an added span for the client, since no store has the client's own span."""
    groups: dict[str, list[Node]] = {}
    for root in roots:
        groups.setdefault(root.span.parent if root.span.attributes.get("atoll.from_outside") else "", []).append(root)
    result = groups.pop("", [])
    for parent, group in groups.items():
        if len(group) == 1:
            result += group
            continue
        first, last = min(node.span.start for node in group), max(node.span.end for node in group)
        made = Node(Span(group[0].span.trace, parent, "", "internal", CLIENT, CLIENT, "", first, last, None, None, None, {}), None, group)
        for node in group:
            node.parent = made
        result.append(made)
    return result


def _settle(node: Node) -> None:
    """Set the role of a node, and its shift if its times contradict those of its caller."""
    parent, span = node.parent, node.span
    same = parent is not None and (parent.span.service, parent.span.site) == (span.service, span.site)
    topic = span.attributes.get("messaging.destination.name", "")
    if span.kind in {"server", "consumer"} and "rpc.method" in span.attributes and span.service.startswith("nova"):
        node.role = ROLES.get(str(topic), span.service)
    elif span.kind == "server" and span.service == "nova":
        node.role = "nova-api"
    elif same and parent is not None and span.kind != "server":
        node.role = parent.role
    else:
        node.role = span.service
    if parent is None:
        return
    node.shift = parent.shift
    outside = node.start < parent.start or (parent.span.kind == "client" and node.end > parent.end)
    if span.site != parent.span.site and outside and parent.span.site:
        # Put the call into the middle of the time that the caller waited, on the assumption that both directions take equally long.
        node.shift += parent.start + max(0, (parent.end - parent.start) - (node.end - node.start)) // 2 - node.start
