"""A budget of control traffic: the greatest number of calls, messages, statements and bytes that each operation may cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from atoll.trace.counts import Counts

KINDS = {"http": "HTTP calls", "rpc": "messages", "sql": "statements"}
"""The kinds of traffic that are counted by service or by pair of services, with the words for them in messages."""

TOTALS = ("commits", "bytes")


@dataclass(frozen=True)
class Excess:
    """A count that is above its budget.

    Attributes:
        operation: the operation.
        what: the kind of traffic, and the services between which it flows.
        count, allowed: the count, and the greatest count that the budget allows.
    """

    operation: str
    what: str
    count: int
    allowed: int

    def __str__(self) -> str:
        return f"{self.operation}: {self.count} {self.what}, the budget is {self.allowed}"


@dataclass(frozen=True)
class Budget:
    """The budgets of all operations.

    Attributes:
        operations: by operation and kind, the greatest counts by pair or service, and the greatest `commits` and `bytes`. Traffic
            without an entry must not occur.
        slack: by operation and `KIND NAME`, such as `sql neutron` or `bytes`, how many more are allowed because the count is not
            deterministic: a number, or a text such as "10%" for a share of the budget. `*` stands for every operation.
    """

    operations: Mapping[str, Mapping[str, Any]]
    slack: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Budget:
        """Read a budget from YAML: a mapping of operations, and the mapping `slack`, whose entries have `more` and the reason `why`.

        Raises:
            ValueError: an entry of `slack` has no reason.
        """
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        slack = data.pop("slack", {})
        for operation, entries in slack.items():
            for name, each in entries.items():
                if not each.get("why"):
                    raise ValueError(f"{path}: slack {operation}: {name}: expected the reason, `why`")
        return cls(data, {operation: {name: each["more"] for name, each in entries.items()} for operation, entries in slack.items()})

    def excesses(self, operation: str, counts: Counts) -> list[Excess]:
        """Return the counts of an operation that are above its budget."""
        budget = self.operations.get(operation, {})
        found = []
        for key, what, count in _each(counts):
            kind, _, name = key.partition(" ")
            allowed = budget.get(kind, {}).get(name, 0) if name else budget.get(kind, 0)
            allowed += self._more(operation, key, allowed)
            if count > allowed:
                found.append(Excess(operation, what, count, allowed))
        return found

    def _more(self, operation: str, key: str, allowed: int) -> int:
        more = self.slack.get(operation, {}).get(key, self.slack.get("*", {}).get(key, 0))
        return int(allowed * float(more.removesuffix("%")) / 100) if isinstance(more, str) else int(more)


def _each(counts: Counts) -> Iterator[tuple[str, str, int]]:
    """Yield each count with its key in a budget and its description."""
    for kind, plural in KINDS.items():
        by = "of" if kind == "sql" else "from"
        for name, count in getattr(counts, kind).items():
            yield f"{kind} {name}", f"{plural} {by} {name}", count
    for name in TOTALS:
        yield name, name, getattr(counts, name)


def least(rounds: Iterable[Counts]) -> Counts:
    """Return the least value of each count over several rounds of an operation: its traffic when all caches are warm."""
    every = list(rounds)

    def smallest(kind: str) -> dict[str, int]:
        names = {name for each in every for name in getattr(each, kind)}
        found = {name: min(getattr(each, kind).get(name, 0) for each in every) for name in sorted(names)}
        return {name: count for name, count in found.items() if count}

    commits, size = min(each.commits for each in every), min(each.bytes for each in every)
    return Counts(smallest("http"), smallest("rpc"), smallest("sql"), commits, size)


def written(operations: Mapping[str, Counts]) -> str:
    """Return the counts of operations as the YAML of a budget, without slack."""
    told = {
        name: {
            **{kind: dict(getattr(counts, kind)) for kind in KINDS if getattr(counts, kind)},
            **{each: getattr(counts, each) for each in TOTALS},
        }
        for name, counts in operations.items()
    }
    text: str = yaml.safe_dump(told, sort_keys=False, width=140)
    return text
