"""The recorder of a process, which makes its spans by OpenTelemetry's SDK."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from opentelemetry import context as contexts
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from atoll.trace import bounds
from atoll.trace.attributes import Attributes


@dataclass(frozen=True)
class Identity:
    """The process that records.

    Attributes:
        service: the name of the process's service, such as `nova`.
        site: the site of the process; empty for a client.
        cloud: the cloud's name.
        peers: the service that listens at each `host:port` that this process may connect to.
    """

    service: str
    site: str
    cloud: str = ""
    peers: Mapping[str, str] | None = None

    @property
    def sender(self) -> str:
        """Value of the key `atoll` in `tracestate`."""
        return f"{self.service}@{self.site}"


class Recorder:
    """Makes the spans of one process.

    Args:
        identity: the identity of the process.
        ratio: the share of requests that are recorded if the sender has not decided, from 0 to 1.
        processors: the receivers of the spans.
    """

    def __init__(self, identity: Identity, ratio: float, *processors: SpanProcessor) -> None:
        self.identity = identity
        self.ratio = ratio
        attributes = {"service.name": identity.service, "service.namespace": identity.cloud, "atoll.site": identity.site}
        self._key = secrets.token_bytes(16)
        self.provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource(attributes), span_limits=bounds.LIMITS, shutdown_on_exit=False)
        self._processors = processors
        for processor in processors:
            self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("atoll")

    def chance(self) -> bool:
        """Decide at random, with the probability `ratio`, whether to record a request whose sender has not decided."""
        return self.ratio > 0 and random.random() < self.ratio  # noqa: S311 - not a secret

    def digest(self, value: bytes) -> str:
        """Return a keyed digest of 16 hexadecimal digits. Its key is this process's secret, so that nobody can guess the value."""
        return blake2b(value, digest_size=8, key=self._key).hexdigest()

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes | None = None,
        *,
        parent: contexts.Context | None = None,
        start_ns: int | None = None,
    ) -> Span:
        """Return a new span that begins now, with texts shortened as `bounds` demands.

        Args:
            name: the name of the span.
            kind: the kind of the span.
            attributes: the attributes of the span; long ones are shortened in place.
            parent: the context that contains the span's parent; `None` means the current context.
            start_ns: the start in nanoseconds since 1970; `None` means now.
        """
        if attributes:
            bounds.bound(attributes, self.digest)
        name = bounds.text(name, bounds.MAX_NAME, self.digest)
        begun = self.tracer.start_span(name, parent, kind, attributes, start_time=start_ns)
        assert isinstance(begun, Span), "of the SDK"
        return begun

    def take(self, span: ReadableSpan) -> None:
        """Pass a finished span that was made without the SDK to the processors."""
        for processor in self._processors:
            processor.on_end(span)

    def stop(self) -> None:
        """Export the spans that have ended."""
        self.provider.shutdown()
