"""The state of a hand-off, as the gateway of the server's site shows it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from atoll.bench.api import Answer, Api

LOOK_S = 0.1
"""Seconds between two looks at a hand-off."""


@dataclass
class Progress:
    """The residues of a hand-off, from repeated looks at its state.

    Attributes:
        lengths: the size in bytes of each residue that was seen, in order.
        middle: set when the first residue is on its way.
    """

    lengths: list[int] = field(default_factory=list)
    middle: threading.Event = field(default_factory=threading.Event)
    _sent: int = 0

    def see(self, shown: Mapping[str, Any]) -> None:
        """Take the state of a hand-off into account: another length, or less data sent than before, means another residue."""
        told = shown.get("progress") or {}
        if "length" not in told:
            return
        if not self.lengths or told["length"] != self.lengths[-1] or told["sent"] < self._sent:
            self.lengths.append(int(told["length"]))
        self._sent = int(told["sent"])
        self.middle.set()


def follow(api: Api, journal: Path, server: str, progress: Progress, over: threading.Event) -> None:
    """Look at the state of a server's newest hand-off again and again.

    Args:
        api: an `InsideApi` of the server's site, signed in.
        journal: the journal of hand-offs of the gateway there.
        server: the server's id.
        progress: takes each state into account.
        over: set when the looks have to end.
    """
    identifier = ""
    while not over.wait(LOOK_S):
        identifier = identifier or newest_handoff(journal, server)
        with suppress(OSError, HTTPException):
            if identifier and (answer := handoff_request(api, "GET", server, f"?id={identifier}")).ok:
                progress.see(answer.body)


def newest_handoff(journal: Path, server: str) -> str:
    """Return the id of the newest hand-off of a server in the journal of the site's gateway; empty if there is none."""
    query = "SELECT id FROM departure WHERE json_extract(record, '$.server') = ? ORDER BY number DESC LIMIT 1"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        found = database.execute(query, (server,)).fetchone()
        return str(found[0]) if found else ""
    return ""


def handoff_request(api: Api, method: str, server: str, query: str = "", body: Any = None) -> Answer:
    """Send a request about the hand-off of a server to a gateway, and return the answer.

    Args:
        api: an `InsideApi`, signed in.
        method: POST to begin or continue a hand-off, GET to see one.
        server: the server's id.
        query: the query of the URL, with its question mark.
        body: the body, sent as JSON.
    """
    return api.call("cloudlet", method, f"/cloudlet/v1/servers/{server}/handoff{query}", body)
