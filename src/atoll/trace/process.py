"""Recording in a process of a site, from its start to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor

from atoll.trace import sampling
from atoll.trace.background import Background
from atoll.trace.exporters import OtlpSink, StoreSink
from atoll.trace.recorder import Identity, Recorder
from atoll.trace.store import FILE

LOG = logging.getLogger(__name__)

FURTHER: list[Callable[[Identity], SpanProcessor]] = []
"""Makers of further receivers of the spans, which the hook of a process may add before recording begins."""


def start(identity: Identity, options: Mapping[str, Any], directory: Path) -> Recorder | None:
    """Begin to record in this process, which must not fork afterwards; return `None` if tracing is off.

    Args:
        identity: the identity of the process.
        options: `sample` (a share from 0 to 1), `size_mb` (the size of the store in megabytes) and `endpoint` (an OTLP
            base URL, or empty). An empty mapping means that tracing is off.
        directory: the directory of the site.
    """
    if not options:
        return None
    processors = [Background(StoreSink(directory / FILE, int(options["size_mb"] * 1_000_000)), "trace-store")]
    if options.get("endpoint"):
        processors.append(Background(OtlpSink(options["endpoint"]), "trace-otlp"))
    made = Recorder(identity, float(options["sample"]), *processors, *(further(identity) for further in FURTHER))
    sampling.install(made)
    return made


def stop(made: Recorder | None) -> None:
    """End recording, and write the queued spans."""
    if made is not None:
        sampling.install(None)
        made.stop()
