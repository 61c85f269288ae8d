"""Records calls that only OpenStack's own code makes: calls of libvirt, transactions of OVSDB, and Neutron's events for Nova.

The module replaces `libvirtmod` in libvirt.py, whose functions each method of libvirt calls; `Transaction.commit` and `do_commit` of
ovsdbapp/backend/ovs_idl/transaction.py; `BatchNotifier` in neutron/notifiers/batch_notifier.py: its `queue_event`, and the callback that it
is given.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from opentelemetry.trace import SpanKind

from atoll.services.contract import Settings
from atoll.trace import sampling, spans
from atoll.trace.attributes import PEER_SERVICE, UNAWAITED

_UNRECORDED = ("virEvent", "virInitialize", "virRegisterErrorHandler", "virGetLastError", "virResetLastError", "virConnectDomainEvent")
"""Prefixes of the names of libvirt's functions that wait for events or only read the process's own memory."""


def install(settings: Settings) -> None:
    """Replace the functions of those libraries that the process has imported."""
    if "nova.virt.libvirt.driver" in sys.modules and settings.hypervisor != "fake" and find_spec("libvirt"):
        _record_libvirt()
    if "ovsdbapp.backend.ovs_idl.transaction" in sys.modules:
        _record_ovsdb()
    if "neutron.notifiers.batch_notifier" in sys.modules:
        _record_events()


class _Recorded:
    """The C functions of libvirt, each of which records its calls."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if callable(found) and not isinstance(found, type) and not name.startswith(_UNRECORDED):
            found = _recorded(name, found)
        setattr(self, name, found)
        return found


def _recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any) -> Any:
        current = sampling.sampled()
        if current is None:
            return function(*args)
        attributes = {"rpc.system": "libvirt", "rpc.method": name, PEER_SERVICE: "libvirt"}
        with spans.span(current, f"libvirt {name}", SpanKind.CLIENT, attributes) as hop:
            result = function(*args)
            texts = [len(each) for each in args if isinstance(each, str | bytes)]
            hop.sizes(sum(texts), len(result) if isinstance(result, str | bytes) else None)
            if result is None or (result == -1 and isinstance(result, int)):
                hop.span.set_attribute("atoll.libvirt.result", "error or nothing")
            return result

    return call


def _record_libvirt() -> None:
    libvirt: Any = import_module("libvirt")
    if not isinstance(libvirt.libvirtmod, _Recorded):
        libvirt.libvirtmod = _Recorded(libvirt.libvirtmod)


class _Wire(threading.local):
    """Bytes that this thread has sent to OVSDB for its present transaction; `None` if no transaction is recorded."""

    sent: int | None = None


_WIRE = _Wire()


def _record_ovsdb() -> None:
    json, jsonrpc = import_module("ovs.json"), import_module("ovs.jsonrpc")
    Transaction = import_module("ovsdbapp.backend.ovs_idl.transaction").Transaction  # noqa: N806 - a class
    if hasattr(Transaction.commit, "__wrapped__"):
        return
    commit, do_commit, send = Transaction.commit, Transaction.do_commit, jsonrpc.Connection.send

    @wraps(commit)
    def recorded_commit(self: Any) -> Any:
        current = sampling.sampled()
        if current is None or not self.commands:
            return commit(self)
        names = [type(command).__name__ for command in self.commands]
        attributes = {"db.system.name": "ovsdb", "db.operation.batch.size": len(names), "atoll.ovsdb.commands": names[:50]}
        attributes[PEER_SERVICE] = "ovsdb"
        with spans.span(current, f"ovsdb {names[0]}", SpanKind.CLIENT, attributes) as hop:
            self._atoll_sent = 0
            try:
                return commit(self)
            finally:
                hop.sizes(self._atoll_sent, None)

    @wraps(do_commit)
    def counted_commit(self: Any) -> Any:
        if not hasattr(self, "_atoll_sent"):
            return do_commit(self)
        _WIRE.sent = 0
        try:
            return do_commit(self)
        finally:
            self._atoll_sent, _WIRE.sent = _WIRE.sent, None

    @wraps(send)
    def counted_send(self: Any, msg: Any) -> Any:
        if _WIRE.sent is not None:
            _WIRE.sent += len(json.to_string(msg.to_json()))
        return send(self, msg)

    Transaction.commit, Transaction.do_commit, jsonrpc.Connection.send = recorded_commit, counted_commit, counted_send


class _Waiting:
    """The trace contexts of the requests whose events wait to be sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[int, contextvars.Context] = {}

    def put(self, event: object, context: contextvars.Context) -> None:
        with self._lock:
            self._contexts[id(event)] = context

    def take(self, events: list[Any]) -> list[contextvars.Context]:
        with self._lock:
            return [context for event in events if (context := self._contexts.pop(id(event), None)) is not None]


def _record_events() -> None:
    """Have a request's events for Nova sent as part of the request's trace, so that the trace also has the work that they cause in Nova.

    A batch of several requests' events belongs to the first of them; the other requests get a span that links to it.
    """
    from neutron.notifiers.batch_notifier import BatchNotifier

    if hasattr(BatchNotifier.queue_event, "__wrapped__"):
        return
    queue_event, begin = BatchNotifier.queue_event, BatchNotifier.__init__
    waiting = _Waiting()

    @wraps(queue_event)
    def queue(self: Any, event: Any) -> None:
        if event and sampling.sampled() is not None:
            waiting.put(event, contextvars.copy_context())
        # This may start a thread, which also sends the events of other requests.
        with sampling.nothing_current():
            queue_event(self, event)

    @wraps(begin)
    def init(self: Any, batch_interval: Any, callback: Callable[[list[Any]], Any]) -> None:
        def send(events: list[Any]) -> Any:
            contexts = waiting.take(events)
            if not contexts:
                return callback(events)
            return contexts[0].run(_send, callback, events, contexts[1:])

        begin(self, batch_interval, send)

    BatchNotifier.queue_event, BatchNotifier.__init__ = queue, init


def _send(callback: Callable[[list[Any]], Any], events: list[Any], others: list[contextvars.Context]) -> Any:
    current = sampling.sampled()
    if current is None:
        return callback(events)
    about = {"atoll.events": len(events), UNAWAITED: True}
    with spans.span(current, "send events to nova", SpanKind.INTERNAL, about) as hop:
        here = hop.span.get_span_context()
        for context in others:
            context.run(spans.linked, "send events to nova", here)
        return callback(events)
