"""The clients' log of requests and their outcomes: one line before each request, and one after its answer."""

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
"""The outcome of a request. A `failed` request was certainly not executed. An `unknown` one may have been executed, or may still be."""


@dataclass(frozen=True)
class Attempt:
    """A request and its outcome.

    Attributes:
        client: the name of the client.
        number: the number of the request among those of its client.
        kind: the kind of the operation, such as `user.create`.
        resource: the name of the resource in the schedule.
        fields: the fields to write.
        id: the id of the resource; empty if the client does not know the id.
        sent_s: the time just before the request was sent, in seconds of a clock that all clients share.
        answered_s: the time just after the answer arrived, by the same clock; `None` without an answer.
        outcome: the outcome of the request.
        why: the status and the message of the answer; the error if there was no answer.
    """

    client: str
    number: int
    kind: str
    resource: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    sent_s: float = 0.0
    answered_s: float | None = None
    outcome: Outcome = "unknown"
    why: str = ""

    @property
    def type(self) -> str:
        """The type of the resource."""
        return self.kind.partition(".")[0]

    @property
    def verb(self) -> str:
        """The action of the operation, such as `create`."""
        return self.kind.partition(".")[2]

    @property
    def site(self) -> str:
        """The site of the client."""
        return self.client.rpartition("/")[0]

    @property
    def happened(self) -> bool:
        """True if the request was or may have been executed."""
        return self.outcome != "failed"

    def __str__(self) -> str:
        return f"{self.kind} {self.resource} {self.id} by {self.client} ({self.number}) at {self.sent_s:.1f} s: {self.outcome} ({self.why})"


class Log:
    """A log file of attempts; threads may share it.

    Args:
        path: the path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def sent(self, client: str, number: int, operation: Operation, id_: str) -> None:
        """Record a request before it is sent."""
        known = {"kind": operation.kind, "resource": operation.resource, "fields": dict(operation.fields), "id": id_}
        self._write({"client": client, "number": number, **known, "sent_s": time.monotonic()})

    def answered(self, client: str, number: int, outcome: Outcome, why: str, id_: str) -> None:
        """Record the outcome of a request."""
        self._write({"client": client, "number": number, "answered_s": time.monotonic(), "outcome": outcome, "why": why, "id": id_})

    def close(self) -> None:
        """Close the log file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def read(paths: Iterable[Path]) -> list[Attempt]:
    """Return the attempts of logs in the order in which they were sent."""
    found: dict[tuple[str, int], Attempt] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            said = json.loads(line)
            key = said["client"], said["number"]
            found[key] = replace(found[key], **said) if key in found else Attempt(**said)
    return sorted(found.values(), key=lambda attempt: attempt.sent_s)
