"""The clients' own log: what was asked for, and what became of it. One line is written before the request, and one after the answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from atoll.bench.faults.operation import Operation

Outcome = Literal["acknowledged", "failed", "unknown"]
"""`failed` certainly did not happen; `unknown` may have happened, or may happen yet."""


@dataclass(frozen=True)
class Attempt:
    """One request.

    Attributes:
        client: who asked.
        number: of the client's requests.
        kind: of the operation.
        thing: what the plan calls that which the operation is about.
        fields: what was to be written.
        id: of the thing, as far as the client knows it.
        sent_s: before it was sent, by a clock that all clients share.
        answered_s: after the answer; None if there was none.
        outcome: what became of it.
        why: status and words, or what went wrong.
    """

    client: str
    number: int
    kind: str
    thing: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    sent_s: float = 0.0
    answered_s: float | None = None
    outcome: Outcome = "unknown"
    why: str = ""

    @property
    def type(self) -> str:
        """Of the thing."""
        return self.kind.partition(".")[0]

    @property
    def verb(self) -> str:
        """What was to be done to it."""
        return self.kind.partition(".")[2]

    @property
    def site(self) -> str:
        """Where the client is."""
        return self.client.rpartition("/")[0]

    @property
    def happened(self) -> bool:
        """False if it certainly did not."""
        return self.outcome != "failed"

    def __str__(self) -> str:
        return f"{self.kind} {self.thing} {self.id} by {self.client} ({self.number}) at {self.sent_s:.1f} s: {self.outcome} ({self.why})"


class Log:
    """Writes attempts. Threads may share it.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def sent(self, client: str, number: int, operation: Operation, id_: str) -> None:
        """Before the request."""
        known = {"kind": operation.kind, "thing": operation.thing, "fields": dict(operation.fields), "id": id_}
        self._write({"client": client, "number": number, **known, "sent_s": time.monotonic()})

    def answered(self, client: str, number: int, outcome: Outcome, why: str, id_: str) -> None:
        """After the answer, or when there will be none."""
        self._write({"client": client, "number": number, "answered_s": time.monotonic(), "outcome": outcome, "why": why, "id": id_})

    def close(self) -> None:
        """No more will be written."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def read(paths: Iterable[Path]) -> list[Attempt]:
    """What logs say, in the order in which it was sent."""
    found: dict[tuple[str, int], Attempt] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            said = json.loads(line)
            key = said["client"], said["number"]
            found[key] = replace(found[key], **said) if key in found else Attempt(**said)
    return sorted(found.values(), key=lambda attempt: attempt.sent_s)
