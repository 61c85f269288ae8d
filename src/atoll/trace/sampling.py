"""The decision what is recorded: the recorder of the process, and the request that a thread or task works for.

A process without a recorder, and a request that is not recorded, must cost next to nothing. So the decision is made once, where a request
enters (`propagation`). All other code calls `sampled`, which reads one context variable.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.trace import Span

from atoll.trace import headers
from atoll.trace.headers import Incoming
from atoll.trace.recorder import Recorder

LINGER_NS = 60_000_000_000
"""Nanoseconds after the end of a request during which its remaining threads are still recorded as part of it. Without a limit, a thread
that never ends would be recorded for ever."""


class _Current:
    """The recorder of this process."""

    recorder: Recorder | None = None


def install(recorder: Recorder | None) -> None:
    """Set the recorder of this process; `None` ends recording."""
    _Current.recorder = recorder
    if recorder is not None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(recorder.provider)


def installed() -> Recorder | None:
    """Return the recorder of this process."""
    return _Current.recorder


class Scope:
    """The request that a thread or task works for.

    Attributes:
        root: the span with which the request entered this process; `None` if it is not recorded.
        state: the entries of other vendors in `tracestate`.
        unsampled: the headers by which receivers learn that the request is not recorded.
    """

    __slots__ = ("root", "state", "unsampled")

    def __init__(self, root: Span | None, state: str, unsampled: dict[str, str]) -> None:
        self.root = root
        self.state = state
        self.unsampled = unsampled


SCOPE: ContextVar[Scope | None] = ContextVar("atoll_trace", default=None)
"""The request that the present thread or task works for; `None` if it works for none."""


def sampled() -> Recorder | None:
    """Return the recorder if the present work of this thread or task is recorded; else `None`."""
    scope = SCOPE.get()
    if scope is None or scope.root is None:
        return None
    ended = scope.root.end_time
    if ended is not None and time.time_ns() - ended > LINGER_NS:
        return None
    return _Current.recorder


def in_request() -> bool:
    """Return whether this thread or task works for a request, recorded or not, in a process that records."""
    return SCOPE.get() is not None and _Current.recorder is not None


def unsampled(incoming: Incoming | None) -> Scope:
    """Return the scope of a request that is not recorded, with the trace context of its sender, or with a new one."""
    ids = (incoming.trace_id, incoming.span_id) if incoming is not None else (random.getrandbits(127) + 1, random.getrandbits(63) + 1)
    return Scope(None, "", {headers.TRACEPARENT: headers.traceparent(*ids, sampled=False)})


@contextmanager
def unrecorded() -> Iterator[None]:
    """Record none of the work inside the block."""
    token = SCOPE.set(unsampled(None))
    try:
        yield
    finally:
        SCOPE.reset(token)


@contextmanager
def nothing_current() -> Iterator[None]:
    """Run the block as work that belongs to no request, so that it joins no trace."""
    token, attached = SCOPE.set(None), contexts.attach(contexts.Context())
    try:
        yield
    finally:
        contexts.detach(attached)
        SCOPE.reset(token)
