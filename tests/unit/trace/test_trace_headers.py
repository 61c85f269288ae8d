"""Trace context on the wire: whatever arrives, it is read or ignored."""

import base64
import json
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from atoll.trace import headers

TRACE, SPAN = 0xABCDEF << 96, 0x1234
IDS = st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1)


@given(*IDS, st.booleans())
def test_the_own_header_is_read_back(trace_id, span_id, sampled):
    said = headers.read(headers.traceparent(trace_id, span_id, sampled=sampled), headers.tracestate("nova@paris", "a=b"))
    assert said == (trace_id, span_id, sampled, "nova", "paris", "a=b")


@given(*IDS, st.booleans())
def test_opentelemetry_reads_the_own_header(trace_id, span_id, sampled):
    carrier = {
        "traceparent": headers.traceparent(trace_id, span_id, sampled=sampled),
        "tracestate": headers.tracestate("nova@paris", "a=b"),
    }
    context = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    assert (context.trace_id, context.span_id, bool(context.trace_flags & 1)) == (trace_id, span_id, sampled)
    assert context.trace_state == {"atoll": "nova@paris", "a": "b"}


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True))
def test_who_opentelemetry_understands_is_understood_alike(text):
    context = trace.get_current_span(TraceContextTextMapPropagator().extract({"traceparent": text})).get_span_context()
    found = headers.read(text)
    if found is None:
        # OpenTelemetry also takes a header with a line feed behind it, which no HTTP server hands out.
        assert not context.is_valid or text.endswith("\n") or text != text.strip()
    else:
        assert (found.trace_id, found.span_id, found.sampled) == (context.trace_id, context.span_id, bool(context.trace_flags & 1))


@given(st.text(max_size=600), st.text(max_size=600), st.text(max_size=600))
def test_nothing_raises(parent, state, profile):
    headers.read(parent, state, profile)
    found = headers.read(headers.traceparent(TRACE, SPAN, sampled=True), state)
    assert found is not None
    assert len(found.state) <= headers.MAX_STATE


@pytest.mark.parametrize(("entries", "kept"), [(2, 2), (128, 128), (129, 128), (16_000, 128)])
def test_a_long_state_is_cut_and_takes_no_time(entries, kept):
    """A gateway reads it in its event loop, of strangers too."""
    began = time.process_time()
    found = headers.read(headers.traceparent(TRACE, SPAN, sampled=False), ",".join(["a=b"] * entries))
    assert time.process_time() - began < 0.5
    assert found.state.split(",") == ["a=b"] * kept


@pytest.mark.parametrize(
    "text",
    [
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
    ],
)
def test_invalid_contexts_are_none(text):
    assert headers.read(text) is None


def test_a_later_version_is_read():
    assert headers.read("01-" + "1" * 32 + "-" + "1" * 16 + "-03-what.it.adds") is not None


def profile(**fields) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


def test_the_header_of_osprofiler_asks_to_be_recorded():
    base, parent = uuid.uuid4(), uuid.uuid4()
    said = profile(base_id=str(base), parent_id=str(parent))
    assert headers.read(None, None, said) == (base.int, parent.int >> 64, True, "", "", "")
    own = headers.traceparent(TRACE, SPAN, sampled=False)
    assert headers.read(own, None, said)[:3] == (TRACE, SPAN, False), "traceparent wins: the gateway has read the other one"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "%%%",
        "bnVsbA==",
        profile(base_id="1", parent_id="2"),
        profile(base_id=1, parent_id=[]),
        profile(base_id="7bf43628-285a-4884-80b0-9655448c499d"),
        "W" * 9999,
    ],
)
def test_a_malformed_header_of_osprofiler_is_ignored(said):
    assert headers.read(None, None, said) is None
