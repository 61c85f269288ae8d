"""Runs a program as the root of a trace."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from atoll.site import traces
from atoll.site.inside import place
from atoll.site.sites import site_settings
from atoll.site.state import State
from atoll.trace import headers, store
from atoll.trace.store import Span
from atoll.trace.tree import CLIENT

QUIET_S = 3.0
"""Seconds without a new span after which a trace is taken to be complete: Neutron holds back its events for two seconds."""

LONGEST_S = 60.0
"""Seconds after the end of the program for which further spans are waited for."""

STORE_BYTES = 64_000_000


def run(state: State, site: str | None, words: Sequence[str]) -> tuple[str, int]:
    """Run a program in a site, and wait until all requests that it has caused are recorded.

    Args:
        state: the state directory of the cloud.
        site: the site's name; `None` means the first site.
        words: the program and its arguments.

    Returns:
        The id of the trace, and the exit code.

    Raises:
        AtollError: `site.*`, `state.*`, `cloud.*`; see `inside.place`.
    """
    settings = site_settings(state, site)
    found = place(state, settings.site)
    trace_id, span_id = secrets.randbits(127) + 1, secrets.randbits(63) + 1
    told = {"TRACEPARENT": headers.traceparent(trace_id, span_id, sampled=True), "TRACESTATE": headers.tracestate(f"{CLIENT}@")}
    begun = time.time_ns()
    done = subprocess.run(
        [sys.executable, "-m", "atoll", "--state", str(state.root), "exec", settings.site, "--", *words], env=os.environ | told, check=False
    )
    error = None if done.returncode == 0 else f"exit code {done.returncode}"
    trace = f"{trace_id:032x}"
    own = Span(trace, f"{span_id:016x}", "", "internal", _name(words), CLIENT, "", begun, time.time_ns(), error, None, None, {})
    writer = store.Writer(state.site(found.name) / store.FILE, STORE_BYTES)
    writer.write([own])
    writer.close()
    _settle(state, trace)
    return trace, done.returncode


def _name(words: Sequence[str]) -> str:
    """Return the program and its subcommand, without further arguments, which may be secrets."""
    named = [Path(words[0]).name]
    for word in words[1:4]:
        if not word.isalpha():
            break
        named.append(word)
    return " ".join(named)


def _settle(state: State, trace: str) -> None:
    until = time.monotonic() + LONGEST_S
    known, changed = -1, time.monotonic()
    while time.monotonic() < min(until, changed + QUIET_S):
        count = len(traces.spans(state, trace))
        if count != known:
            known, changed = count, time.monotonic()
        time.sleep(0.25)
