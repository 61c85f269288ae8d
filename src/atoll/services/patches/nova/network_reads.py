"""Requests to Neutron that nova-compute makes in any case, sent early while it waits for another answer.

At a compute site a build reads the networks of its new ports after two round trips to the conductor, and a deletion lists the server's
ports after one. Here another thread sends the request as soon as the build or the deletion begins, and upstream's code waits for the thread
where it needs the answer. If the early request fails, upstream's code sends its own. The ports of a server are deleted at the same time
instead of one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from cachetools import TTLCache
from nova.network import neutron
from oslo_log import log

from atoll.services.patches.nova import batches, expanded_ports
from atoll.services.patches.nova.expanded_ports import ALIAS, ExpandingAPI

LOG = log.getLogger(__name__)

KEPT_S, MAX_ANSWERS = 300, 1000
"""Seconds for which an unused answer is kept, and the greatest number of answers."""

AT_ONCE = 8
"""Greatest number of ports of a server that are deleted at the same time."""

Question = Callable[[], Any]


class _Answers:
    """Answers to early requests, by server."""

    def __init__(self) -> None:
        self._answers: TTLCache[str, Future[Any]] = TTLCache(MAX_ANSWERS, KEPT_S)
        self._lock = threading.Lock()

    def begin(self, server: str, question: Question) -> None:
        """Send a request in a thread of its own."""
        answer: Future[Any] = Future()
        with self._lock:
            self._answers[server] = answer
        threading.Thread(target=_ask, args=(answer, question), name="read-ahead", daemon=True).start()

    def take(self, server: str) -> Any:
        """Wait for the answer to an early request, and return it to the first caller; `None` if no request was sent, or it failed."""
        with self._lock:
            answer = self._answers.pop(server, None)
        return None if answer is None else answer.result()

    def forget(self, server: str) -> None:
        """Drop an answer that is outdated."""
        with self._lock:
            self._answers.pop(server, None)


def _ask(answer: Future[Any], question: Question) -> None:
    try:
        answer.set_result(question())
    except Exception as error:
        LOG.debug("an early request to Neutron failed, and will be sent again when its answer is needed: %s", error)
        answer.set_result(None)


_networks = _Answers()
_ports = _Answers()

_listed: ContextVar[tuple[str, dict[str, Any]] | None] = ContextVar("listed", default=None)
"""The server that is being deleted, and the answer to the list of its ports."""


def networks_of_build(context: Any, server: str, requested: Any) -> None:
    """Begin to look up the networks in which a build creates ports; `ExpandingAPI` keeps them for the request."""
    ids = sorted({each.network_id for each in requested or () if each.network_id and not each.port_id})

    def look_up() -> None:
        if expanded_ports._extensions.have(ALIAS):
            with ReadingAPI.sharing(context):
                neutron.get_client(context).list_networks(id=ids)

    if ids:
        _networks.begin(server, look_up)


def ports_of_deletion(context: Any, server: str) -> None:
    """Begin to list the ports of a server that is being deleted; no other work may change the ports meanwhile."""
    _ports.begin(server, lambda: neutron.get_client(context).list_ports(device_id=server))


forget_ports = _ports.forget


class ReadingAPI(ExpandingAPI):
    """The network API of a compute site."""

    @classmethod
    def sharing(cls, context: Any) -> Any:
        """Return the context in which clients keep the networks that they have read for the request."""
        return ExpandingAPI._sharing(cls.__new__(cls), context)

    def allocate_for_instance(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> Any:
        """Create and bind a server's ports; the early look-up of their networks ends before."""
        _networks.take(instance.uuid)
        return super().allocate_for_instance(context, instance, *arguments, **keywords)

    def deallocate_for_instance(self, context: Any, instance: Any, **keywords: Any) -> None:
        """Delete a server's ports, which may have been listed already."""
        found = _ports.take(instance.uuid)
        token = _listed.set(None if found is None else (instance.uuid, found))
        try:
            super().deallocate_for_instance(context, instance, **keywords)
        finally:
            _listed.reset(token)

    def _delete_ports(self, client: Any, instance: Any, ports: Any, raise_if_fail: bool = False) -> None:
        """Delete ports at the same time; if some can't be deleted, the others are, and the first error is raised, as upstream does."""
        ports = list(ports)
        if len(ports) < 2:
            super()._delete_ports(client, instance, ports, raise_if_fail)
            return
        batches.flush()  # the other threads do not use the batch of this thread
        delete = super()._delete_ports
        with ThreadPoolExecutor(AT_ONCE) as pool:
            deletions = [pool.submit(delete, client, instance, [port], raise_if_fail) for port in ports]
        errors = [error for deletion in deletions if (error := deletion.exception()) is not None]
        if errors:
            raise errors[0]


class _Client:
    """A client of Neutron that lists the ports of a server that is being deleted from an earlier answer."""

    def __init__(self, real: Any, server: str, ports: dict[str, Any]) -> None:
        self._real, self._server, self._ports = real, server, ports

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def list_ports(self, **search: Any) -> Any:
        """List ports; those of the server come from the earlier answer."""
        return self._ports if search == {"device_id": self._server} else self._real.list_ports(**search)


def install() -> None:
    """Have nova-compute use `ReadingAPI`; `expanded_ports` must be installed."""
    upstream = neutron.get_client

    def get_client(context: Any, admin: bool = False) -> Any:
        real, listed = upstream(context, admin=admin), _listed.get()
        return real if listed is None or admin else _Client(real, *listed)

    neutron.get_client = get_client
    neutron.API = ReadingAPI
