"""The traces of a cloud, from the stores of all its sites in this state directory, or from a file of another machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atoll.errors import AtollError
from atoll.files import read_regular
from atoll.site.state import State
from atoll.trace import formats, store
from atoll.trace.store import Span, Summary
from atoll.trace.tree import Trace, build

LATEST = "latest"
"""The word that stands for the id of the trace that began last."""

MAX_FILE = 512 << 20
"""Greatest size, in bytes, of a file of spans that is read."""


def stores(state: State) -> list[Path]:
    """Return the files of the stores, including those of sites that never recorded anything.

    Raises:
        AtollError: `state.*`: there is no usable state directory.
    """
    state.check()
    return [state.site(name) / store.FILE for name in state.existing_sites()]


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except store.DamagedError as error:
        raise AtollError("trace.store", str(error), "move the file away: the site begins a new one with its next span") from None


def summaries(state: State, limit: int) -> list[Summary]:
    """Return the latest traces of all sites, the latest first.

    Args:
        state: the state directory of the cloud.
        limit: the greatest number of traces to return.

    Raises:
        AtollError: `state.*`; `trace.store`: a store can't be read.
    """
    found: dict[str, Summary] = {}
    with _explained():
        for path in stores(state):
            for each in store.summaries(path, limit):
                known = found.get(each.trace)
                found[each.trace] = each if known is None else _together(known, each)
    return sorted(found.values(), key=lambda each: -each.start)[:limit]


def _together(one: Summary, other: Summary) -> Summary:
    return Summary(one.trace, one.spans + other.spans, min(one.start, other.start), max(one.end, other.end), one.errors + other.errors)


def spans(state: State, trace: str) -> list[Span]:
    """Return the spans of a trace, of all sites.

    Args:
        state: the state directory of the cloud.
        trace: the trace's whole id.

    Raises:
        AtollError: `state.*`; `trace.store`: a store can't be read.
    """
    with _explained():
        return [span for path in stores(state) for span in store.spans(path, [trace])]


def find(state: State, wanted: str) -> tuple[Trace, list[Span]]:
    """Return the trace that an id, the beginning of an id, `latest` or a file names, and its spans.

    Args:
        state: the state directory of the cloud.
        wanted: an id (also as a UUID), the beginning of an id, `latest`, or the name of a file with OTLP JSON.

    Raises:
        AtollError: `trace.unknown`, `trace.invalid`, `trace.store`, `state.*`.
    """
    found = _of_file(Path(wanted)) if Path(wanted).suffix == ".json" else spans(state, _id(state, wanted))
    try:
        return build(found), found
    except ValueError as error:
        raise AtollError("trace.invalid", f"{wanted}: {error}", "expected a file of `atoll trace export ID`") from None


def _id(state: State, wanted: str) -> str:
    if wanted == LATEST:
        latest = summaries(state, 1)
        if not latest:
            raise AtollError("trace.unknown", "no trace was recorded yet", "record one: `atoll trace run -- openstack server list`")
        return latest[0].trace
    prefix = wanted.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        raise AtollError(
            "trace.unknown", f"{wanted!r} is no id of a trace: expected up to 32 hexadecimal digits", "`atoll trace list` shows them"
        )
    with _explained():
        known = sorted({each for path in stores(state) for each in store.traces(path, prefix)})
    if len(known) != 1:
        what = "no trace has an id that begins with" if not known else "several traces have ids that begin with"
        raise AtollError("trace.unknown", f"{what} {prefix}", "`atoll trace list` shows them")
    return known[0]


def _of_file(path: Path) -> list[Span]:
    try:
        content = read_regular(path, MAX_FILE)
        if len(content) > MAX_FILE:
            raise AtollError("trace.invalid", f"{path} has more than {MAX_FILE} bytes", "expected a file of `atoll trace export ID`")
        return formats.from_otlp(json.loads(content))
    except OSError as error:
        raise AtollError("trace.unknown", f"{path}: {(error.strerror or str(error)).lower()}", "`atoll trace list` shows ids") from None
    except (ValueError, RecursionError) as error:
        raise AtollError("trace.invalid", f"{path}: {error}", "expected a file of `atoll trace export ID`") from None
