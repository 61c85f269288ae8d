"""Calls of remote objects that wait for one another, so that one message carries several.

At a compute site each call of an object's remote method is a message to the conductor (`ConductorAPI` in nova/conductor/rpcapi.py) and a
round trip of nova-compute. While a thread builds or deletes a server it has a `Batch`. A call whose result nobody reads is appended to the
batch, and is sent with the next call whose result is needed, in the order in which the calls were made.

Nothing becomes visible out of order, and no step happens before the writes that upstream would have made before it:

- A batch is sent before each request over HTTP that changes anything, before each use of the hypervisor and before each other message, and
  when the thread's work ends.
- A save that expects a state (compare-and-swap) is never deferred.
- Other threads of the process send the batch first, if they may read data that it writes, and wait for a batch that is on its way.
- A batch ends with its first call that fails; its error is raised by the call that the thread made last.

A batch also *reads ahead*: its first message contains the reads that the thread will make later in any case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keystoneauth1 import session
from nova import rpc
from nova.compute import vm_states
from nova.conductor import rpcapi
from nova.objects.base import NovaObject
from oslo_log import log
from oslo_messaging import RemoteError, UnsupportedVersion
from oslo_messaging._drivers import common

from atoll.services.patches.nova import batch_format
from atoll.services.patches.nova.batch_actions import BatchAction
from atoll.services.patches.nova.node_reports import NodeReports

LOG = log.getLogger(__name__)

WITHOUT_BATCHES_S = 300
"""Seconds after which a conductor that has no batches, since its release is older, is asked again."""

DEFERRED = frozenset({
    ("InstanceActionEvent", "event_start"),
    ("VirtualInterface", "create"),
    ("VirtualInterface", "delete_by_instance_uuid"),
    ("InstanceInfoCache", "save"),
    ("ConsoleAuthToken", "clean_console_auths_for_instance"),
})  # fmt: skip
"""Classes and methods of the calls that are deferred, besides some saves (`_may_wait`)."""

OWN = frozenset({
    "BlockDeviceMappingList.get_by_instance_uuid", "InstanceActionEvent.event_finish_with_failure", "ResourceList.get_by_instance_uuid",
    "Service.get_by_compute_host", "ShareMappingList.get_by_instance_uuid",
})  # fmt: skip
"""Calls of classes that concern one server or no server, so that they read nothing that batches of other servers write."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

Plain = Callable[[], Any]
"""A function that makes a call as upstream does, with a message of its own."""


class _Local(threading.local):
    batch: Batch | None = None


_local = _Local()
_open: set[Batch] = set()
_lock = threading.Lock()


class Batch:
    """The calls of one thread that wait to be sent.

    Args:
        api: sends the calls.
        server: the id of the server that is built or deleted.
        ahead: optional calls whose results the thread will need; the first message that has a result carries them.
        deletes: True if the server is being deleted, so that the deletion of its allocations waits for its turn in the batch.
        fresh_cache: True if the server's network information is as the request's message carried it, so that it needs no refresh.

    Attributes:
        prompt: True if the start of an event is sent immediately, because the thread may wait for a lock after it.
    """

    def __init__(
        self, api: BatchingAPI, server: str, ahead: Sequence[BatchAction] = (), *, deletes: bool = False, fresh_cache: bool = False
    ) -> None:
        self.server = server
        self.deletes = deletes
        self.fresh_cache = fresh_cache
        self.prompt = False
        self._api = api
        self._ahead = list(ahead)
        self._pending: list[BatchAction] = []
        self._results: dict[str, str] = {}
        self._updates: list[tuple[Any, dict[str, Any]]] = []
        self._undone: list[BatchAction] = []
        self._failure: Exception | None = None
        self._on_its_way = False
        self._lock = threading.RLock()

    @property
    def waits(self) -> bool:
        """True if a call waits to be sent or was sent and not answered yet, or if its thread does not know yet that it failed."""
        return bool(self._pending) or self._on_its_way or self._failure is not None

    def defer(self, action: BatchAction) -> None:
        """Append a call whose result nobody reads.

        Raises:
            Exception: the exception of an earlier call, which another thread has sent.
        """
        with self._lock:
            self._settle()
            self._pending.append(action)

    def run(self, action: BatchAction, plain: Plain) -> Any:
        """Send the waiting calls and then `action`, and return the result of `action`.

        Raises:
            Exception: that of the first call that failed.
        """
        with self._lock:
            self._settle()
            if action.target is not None and any(each.creates(action.target) for each in self._pending):
                self.flush()
                return plain()
            if not self._pending and not self._ahead:
                return plain()
            try:
                return self._send(action)
            finally:
                self._settle()

    def flush(self) -> None:
        """Send all waiting calls.

        Raises:
            Exception: that of the first call that failed.
        """
        with self._lock:
            self._settle()
            if self._pending:
                try:
                    self._send(None)
                finally:
                    self._settle()

    def flush_for_others(self) -> None:
        """Send the waiting calls from another thread; the batch's own thread gets the error of a call that failed."""
        with self._lock:
            if self._pending:
                try:
                    self._send(None)
                except Exception as error:
                    self._failure = error
                finally:
                    self._on_its_way = False

    def read(self, action: BatchAction) -> tuple[bool, Any]:
        """Return whether a call was read ahead, and its result, which is returned once."""
        with self._lock:
            found = self._results.pop(action.key, None)
            self._ahead = [each for each in self._ahead if each.key != action.key]
        return (False, None) if found is None else (True, batch_format.load(action.context, found))

    def forget(self, name: str) -> None:
        """Discard the results of a class of objects that were read ahead."""
        with self._lock:
            self._results = {key: result for key, result in self._results.items() if not key.startswith(name)}

    def _send(self, last: BatchAction | None) -> Any:
        self._on_its_way = bool(self._pending)
        deferred, self._pending = self._pending, []
        actions = list(deferred)
        if last is not None:  # otherwise the batch may be sent long before the thread reads anything
            actions += [*self._ahead, last]
            self._ahead = []
        done: list[BatchAction] = []
        try:
            for action, result in self._api.perform(actions):
                done.append(action)
                if action is last:
                    return batch_format.load(action.context, result)
                if action.optional:
                    self._results[action.key] = result
                elif action.target is not None and not any(each.target is action.target for each in actions[actions.index(action) + 1 :]):
                    self._updates.append((action.target, batch_format.load(action.context, result)[0]))
        finally:
            self._undone += [action for action in deferred if action not in done]
        return None

    def _settle(self) -> None:
        """Update the objects of calls that were sent, as the calls would have done; only the batch's own thread does this.

        Changes that were not saved are marked as unsaved again.
        """
        self._on_its_way = False
        updates, self._updates = self._updates, []
        undone, self._undone = self._undone, []
        for target, changed in updates:
            _update(target, changed)
        for action in undone:
            if action.target is not None:
                action.target._changed_fields.update(action.changes)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure


def _update(target: Any, changed: dict[str, Any]) -> None:
    for name, value in changed.items():
        if name in target.fields and name not in target.obj_what_changed():
            setattr(target, name, value if isinstance(value, NovaObject) else target.fields[name].from_primitive(target, name, value))
            target._changed_fields.discard(name)


class BatchingAPI(rpcapi.ConductorAPI):
    """Upstream's client of the conductor, which defers calls of threads that have a batch."""

    def __init__(self) -> None:
        super().__init__()
        self._reports = NodeReports(super().object_action)
        self._alone_until = 0.0

    def object_action(self, context: Any, objinst: Any, objmethod: str, args: Any, kwargs: Any) -> Any:
        """Call a method of an object at the conductor, now or with a later call.

        Returns:
            The fields that the call has changed, and its result; both are empty if the call is deferred.
        """
        batch, kind = current(), objinst.obj_name()
        if (kind, objmethod) == ("ComputeNode", "save"):
            return self._reports.save(context, objinst, args, kwargs, waits=batch is None)
        if (kind, objmethod) == ("InstanceInfoCache", "save"):
            _outdate(objinst.instance_uuid, batch)

        def plain() -> Any:
            return super(BatchingAPI, self).object_action(context, objinst, objmethod, args, kwargs)

        if batch is None:
            if kind != "Service":  # a heartbeat reads nothing that a batch writes, and must not wait for a message that was lost
                flush_all()
            return plain()
        if (kind, objmethod) == ("InstanceInfoCache", "refresh") and batch.fresh_cache and objinst.instance_uuid == batch.server:
            return {"obj_what_changed": []}, None
        action = BatchAction.of_object(context, objinst, objmethod, args, kwargs)
        if (kind, objmethod) in DEFERRED or _may_wait(kind, objinst, objmethod, args, kwargs):
            batch.defer(action)
            return {"obj_what_changed": []}, None
        flush_all(batch, batch.server)
        return batch.run(action, plain)

    def object_class_action_versions(self, context: Any, objname: str, objmethod: str, *call: Any) -> Any:
        """Call a method of a class of objects at the conductor, now or with a later call, or return the result if it was read ahead.

        Args:
            context: the caller's context.
            objname: the name of the class.
            objmethod: the name of the method.
            call: the versions of the classes that the caller knows, and the method's positional and keyword arguments.
        """
        batch = current()
        versions, args, kwargs = call

        def plain() -> Any:
            return super(BatchingAPI, self).object_class_action_versions(context, objname, objmethod, *call)

        if batch is None:
            flush_all()
            return plain()
        action = BatchAction.of_class(context, objname, objmethod, (versions, args, kwargs))
        known, result = batch.read(action)
        if known:
            return result
        if (objname, objmethod) in DEFERRED and not kwargs.get("want_result"):
            batch.defer(action)
            if batch.prompt and objmethod == "event_start":
                batch.flush()
            return None
        flush_all(batch, batch.server if f"{objname}.{objmethod}" in OWN else None)
        return batch.run(action, plain)

    def perform(self, actions: Sequence[BatchAction]) -> Iterator[tuple[BatchAction, str]]:
        """Send actions in one message, or in several messages if there are too many actions or their results are too long for one.

        Yields:
            Each action with its result as JSON; those that were optional and failed are left out.

        Raises:
            Exception: that of the first action that failed.
        """
        while actions:
            performed = yield from self._perform(actions[: batch_format.MAX_ACTIONS])
            actions = actions[performed:]

    def _perform(self, actions: Sequence[BatchAction]) -> Generator[tuple[BatchAction, str], None, int]:
        """Send actions in one message; yield as `perform` does, and return the number of actions that were performed, the first ones."""
        if len(actions) == 1 or time.monotonic() < self._alone_until:
            yield from self._one_by_one(actions)
            return len(actions)
        contexts = [each.context.to_dict() for each in actions]
        unique = [each for number, each in enumerate(contexts) if each not in contexts[:number]]
        texts = [action.text(unique.index(context)) for action, context in zip(actions, contexts, strict=True)]
        # Upgrade levels concern upstream's methods: a conductor without batches answers `UnsupportedVersion`.
        client = self.client.prepare(namespace=batch_format.NAMESPACE, version=batch_format.VERSION, version_cap=None)
        try:
            answers = client.call(actions[-1].context, "object_actions", contexts=unique, actions=texts)
        except (UnsupportedVersion, RemoteError) as error:
            if isinstance(error, RemoteError) and error.exc_type != UnsupportedVersion.__name__:
                raise
            LOG.warning("the conductor takes no batches; each call is sent alone")
            self._alone_until = time.monotonic() + WITHOUT_BATCHES_S
            yield from self._one_by_one(actions)
            return len(actions)
        if not answers:
            raise RemoteError(ValueError.__name__, "the conductor performed no action of a batch")
        for action, answer in zip(actions, answers, strict=False):
            if "result" in answer:
                yield action, answer["result"]
            elif not action.optional:
                raise common.deserialize_remote_exception(answer["failure"], rpc.get_allowed_exmods())
        return len(answers)

    def _one_by_one(self, actions: Sequence[BatchAction]) -> Iterator[tuple[BatchAction, str]]:
        for action in actions:
            if action.optional:
                continue  # its reader will ask
            yield action, batch_format.dump(action.context, action.alone(super()))


def _may_wait(kind: str, one: Any, method: str, args: Any, kwargs: Any) -> bool:
    """Return whether a save without an expected state may be sent with a later call.

    This is so for the host of a server that is being claimed, for the names of its disks, and for the end of a server's deletion.
    """
    if method != "save" or any(args) or any(kwargs.values()):
        return False
    changes = one.obj_what_changed()
    if kind == "BlockDeviceMapping":
        return bool(changes <= {"device_name"})
    if kind != "Instance":
        return False
    claims = "host" in changes and one.host is not None and not changes & {"task_state", "vm_state"}
    return claims or ("vm_state" in changes and one.vm_state == vm_states.DELETED)


def current() -> Batch | None:
    """Return the batch of this thread; `None` if its calls are not deferred."""
    return _local.batch


def flush() -> None:
    """Send the waiting calls of this thread's batch.

    Raises:
        Exception: that of the first call that failed.
    """
    batch = current()
    if batch is not None and batch.waits:
        batch.flush()


def flush_all(own: Batch | None = None, server: str | None = None) -> None:
    """Send the waiting calls of other threads' batches, because this thread may read data that they write.

    Args:
        own: the batch of this thread, which is not sent.
        server: the id of the server whose batches are sent; `None` for those of all servers.
    """
    with _lock:
        others = [each for each in _open if each is not own and each.waits and server in {None, each.server}]
    for each in others:
        each.flush_for_others()


def forget(name: str) -> None:
    """Discard the results of a class of objects that any batch has read ahead."""
    with _lock:
        batches = list(_open)
    for each in batches:
        each.forget(name)


def _outdate(server: str, own: Batch | None) -> None:
    """Mark the network information of a server, which this thread changes, as stale in the batches of other threads."""
    with _lock:
        for each in _open:
            if each is not own and each.server == server:
                each.fresh_cache = False


@contextmanager
def opened(server: str, ahead: Sequence[BatchAction] = (), **options: bool) -> Iterator[Batch | None]:
    """Defer the calls of this thread until the context ends, unless the process has a database.

    Args:
        server: the id of the server that the thread works for.
        ahead: calls whose results the thread will need.
        options: `deletes` and `fresh_cache` of `Batch`.
    """
    api = NovaObject.indirection_api
    if not isinstance(api, BatchingAPI):
        yield None
        return
    batch = Batch(api, server, ahead, **options)
    with _lock:
        _open.add(batch)
    try:
        with joined(batch):
            try:
                yield batch
            finally:
                batch.flush()
    finally:
        with _lock:
            _open.discard(batch)


@contextmanager
def joined(batch: Batch | None) -> Iterator[None]:
    """Let this thread use the batch of a thread that waits for this one."""
    before, _local.batch = _local.batch, batch
    try:
        yield
    finally:
        _local.batch = before


def _ordered(request: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Session.request`, so that a request that changes anything is sent after the waiting calls."""

    def requested(self: Any, url: str, method: str, *arguments: Any, **keywords: Any) -> Any:
        if method.upper() not in _SAFE:
            flush()
        return request(self, url, method, *arguments, **keywords)

    return requested


def install() -> None:
    """Have the objects of this process be read and saved in batches; it must have no database."""
    session.Session.request = _ordered(session.Session.request)
    NovaObject.indirection_api = BatchingAPI()
