"""Hands finished spans to an exporter in a thread, so that no request waits for a disk or a network.

OpenTelemetry's own `BatchSpanProcessor` wakes its thread by a timer, in each process of each site, even if nothing is recorded. The thread
of `Background` sleeps until a span ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

LOG = logging.getLogger(__name__)

QUEUE = 20_000
"""Greatest number of spans in the queue; further spans are dropped, and counted."""

BATCH = 2_000
COLLECT_S = 0.2
"""Seconds from the first queued span to the writing of the batch."""


class Sink(Protocol):
    """A receiver of spans, called by one thread."""

    def write(self, spans: list[ReadableSpan]) -> None:
        """Write a batch of spans; if this raises an exception, the batch is lost."""

    def close(self) -> None:
        """Close the files and connections of the sink."""


class Background(SpanProcessor):
    """A processor with a bounded queue and one thread, which starts with the first span.

    Args:
        sink: receives the spans.
        name: the name of the thread, also used in the log.

    Attributes:
        dropped: the number of spans that were lost because the queue was full or the sink failed.
    """

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self._name = name
        self._waiting: deque[ReadableSpan] = deque()
        self._changed = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._failing = False
        self.dropped = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span is queued when it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; never waits, never raises."""
        if len(self._waiting) >= QUEUE or self._ended:
            self.dropped += 1
            return
        self._waiting.append(span)
        if not self._changed.is_set():
            self._idle.clear()
            self._changed.set()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                # This thread's own work must not be recorded, because each batch would cause another one.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not (self._ended and not self._waiting):
            self._changed.wait()
            if not self._ended:
                time.sleep(COLLECT_S)
            self._changed.clear()
            self._drain()
            if not self._changed.is_set():
                self._idle.set()
        self._sink.close()

    def _drain(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                self._sink.write(batch)
            except Exception as error:
                self.dropped += len(batch)
                if not self._failing:
                    LOG.warning("%s: spans are dropped: %s", self._name, " ".join(str(error).split())[:300])
                self._failing = True
            else:
                if self._failing:
                    LOG.warning("%s: spans are accepted again; %d were dropped", self._name, self.dropped)
                self._failing = False

    def force_flush(self, timeout_millis: int = 5000) -> bool:
        """Wait until the sink has received all spans that have ended; return False if `timeout_millis` milliseconds do not suffice."""
        until = time.monotonic() + timeout_millis / 1000
        while self._waiting or not self._idle.is_set():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def shutdown(self) -> None:
        """Have the thread write the queued spans and end; wait at most two seconds for that."""
        self._ended = True
        self._changed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2.0)
