"""Plans: descriptions of the fork servers and processes that a supervisor runs, as plain data that is sent as JSON.

A plan names functions as text, so that neither the client nor the supervisor imports the programs of the processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from atoll.errors import AtollError
from atoll.namespaces import Namespace

ROOT = "root"
"""The name of the fork server from which all others descend. Every plan contains it."""

RESERVED = (ROOT, "supervisor")
ARGUMENTS_LIMIT = 64 * 1024
"""Greatest number of bytes of a process's arguments as JSON: they are sent in one datagram."""

LISTEN_LIMIT = 200
"""Greatest number of sockets of a process: the kernel passes at most 253 descriptors in one message."""


@dataclass(frozen=True)
class ForkServer:
    """A process that has imported a program and forks one child per `Process`.

    Attributes:
        name: unique among fork servers and processes.
        preload: `module:function`, called once, without arguments. The function must not open files or sockets, and must not start threads.
        parent: the fork server from which this one is forked, and whose imports it shares; `None` means the root.
    """

    name: str
    preload: str | None = None
    parent: str | None = None

    @property
    def origin(self) -> str:
        """The name of the fork server from which this one is forked."""
        return self.parent or ROOT

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> ForkServer:
        """Return the object from the data of `to_json`.

        Raises:
            AtollError: `runtime.invalid`: a field is wrong; the message names it.
        """
        fields = _Fields("fork server", data)
        return cls(fields.text("name"), fields.optional_text("preload"), fields.optional_text("parent"))


@dataclass(frozen=True)
class Process:
    """A service or a job of a plan.

    Attributes:
        name: unique, such as `paris/nova`.
        fork_server: the fork server from which the process is forked.
        entry: `module:function`, called with a `Child` in the main thread.
        arguments: JSON data that the entry finds in `Child.arguments`.
        needs: names of processes that must be ready (jobs: done) before this one is started.
        job: True for a job, which runs to its end each time that the plan is applied; False for a service, which must keep running.
        listen: (host, port) of the TCP sockets that the supervisor binds and the entry finds in `Child.sockets`.
        log: absolute path of the file to which the process's output is appended.
        directory: absolute path of the process's working directory.
        network: the network namespace of the process and its sockets; `None` means the supervisor's own.
        ready_timeout_s: seconds that a service may take to call `Child.ready` or `Child.starting`, and a job to end.
        stop_timeout_s: seconds between SIGTERM and SIGKILL.
    """

    name: str
    fork_server: str
    entry: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    job: bool = False
    listen: tuple[tuple[str, int], ...] = ()
    log: str = "/dev/null"
    directory: str = "/"
    network: Namespace | None = None
    ready_timeout_s: float = 120.0
    stop_timeout_s: float = 15.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Process:
        """Return the object from the data of `to_json`.

        Raises:
            AtollError: `runtime.invalid`: a field is wrong; the message names it.
        """
        fields = _Fields("process", data)
        return cls(
            name=fields.text("name"),
            fork_server=fields.text("fork_server"),
            entry=fields.text("entry"),
            arguments=fields.mapping("arguments"),
            needs=fields.texts("needs"),
            job=fields.boolean("job"),
            listen=fields.addresses("listen"),
            log=fields.text("log", "/dev/null"),
            directory=fields.text("directory", "/"),
            network=fields.network("network"),
            ready_timeout_s=fields.seconds("ready_timeout_s", 120.0),
            stop_timeout_s=fields.seconds("stop_timeout_s", 15.0),
        )

    def signature(self) -> str:
        """Return a text that differs between two definitions of a process if a change from one to the other needs a restart."""
        data = self.to_json()
        for name in ("needs", "ready_timeout_s", "stop_timeout_s"):
            del data[name]
        return json.dumps(data, sort_keys=True)


@dataclass(frozen=True)
class Plan:
    """Processes that should run. A process that runs already and is not in the plan is not changed.

    Attributes:
        fork_servers: the fork servers of the processes, in any order; each is started when it is first needed.
        processes: services and jobs, in any order.
    """

    fork_servers: tuple[ForkServer, ...] = ()
    processes: tuple[Process, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Plan:
        """Return the object from the data of `to_json`.

        Raises:
            AtollError: `runtime.invalid`: a field is wrong; the message names it.
        """
        fields = _Fields("plan", data)
        return cls(
            tuple(ForkServer.from_json(item) for item in fields.sequence("fork_servers")),
            tuple(Process.from_json(item) for item in fields.sequence("processes")),
        )

    def over(self, known: Mapping[str, ForkServer | Process]) -> dict[str, ForkServer | Process]:
        """Return all definitions by name: the known ones, replaced or completed by those of this plan.

        Raises:
            AtollError: `runtime.invalid`: a name is used twice or reserved, a reference has no target, or needs form a cycle.
        """
        named: dict[str, ForkServer | Process] = {}
        items: tuple[ForkServer | Process, ...] = (*self.fork_servers, *self.processes)
        for item in items:
            if item.name in named or item.name in RESERVED or not item.name:
                raise invalid(f"the name {item.name!r} is used twice, reserved or empty")
            if item.name in known and type(known[item.name]) is not type(item):
                raise invalid(f"{item.name!r} cannot be both a fork server and a process")
            named[item.name] = item
        everything = {**known, ROOT: ForkServer(ROOT), **named}
        for item in named.values():
            _check(item, everything)
        _check_circles(everything)
        return everything


def needs_of(item: ForkServer | Process) -> tuple[str, ...]:
    """Return the names of the units that must be ready before this one can start, its fork server or parent first."""
    if isinstance(item, Process):
        return (item.fork_server, *item.needs)
    return () if item.name == ROOT else (item.origin,)


def invalid(message: str) -> AtollError:
    """Return a `runtime.invalid` error, for the caller to raise."""
    return AtollError("runtime.invalid", message)


def _check(item: ForkServer | Process, everything: Mapping[str, ForkServer | Process]) -> None:
    origin, *needs = needs_of(item)
    if not isinstance(everything.get(origin), ForkServer):
        raise invalid(f"{item.name} names the fork server {origin!r}, which the plan does not have")
    for need in needs:
        if not isinstance(everything.get(need), Process):
            raise invalid(f"{item.name} needs the process {need!r}, which the plan does not have")
    entry = item.entry if isinstance(item, Process) else item.preload
    if entry is not None and not all(entry.partition(":")):
        raise invalid(f"the entry of {item.name} is {entry!r}: expected module:function")
    if isinstance(item, Process):
        if len(json.dumps(dict(item.arguments))) > ARGUMENTS_LIMIT:
            raise invalid(f"the arguments of {item.name} are too long: expected at most {ARGUMENTS_LIMIT} bytes of JSON")
        if len(item.listen) > LISTEN_LIMIT:
            raise invalid(f"{item.name} has too many sockets: expected at most {LISTEN_LIMIT}")
        if not (item.log.startswith("/") and item.directory.startswith("/")):
            raise invalid(f"the log or the directory of {item.name} is not an absolute path")


def _check_circles(everything: Mapping[str, ForkServer | Process]) -> None:
    left = {name: set(needs_of(item)) & everything.keys() for name, item in everything.items()}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    if left:
        raise invalid(f"these processes need one another in a circle: {', '.join(sorted(left))}")


def _encodable(value: str) -> bool:
    """Return whether a text can be encoded in UTF-8. JSON can express half of a surrogate pair, which no file name can contain."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Fields:
    """Reader of the fields of a JSON object, whose errors name the field."""

    def __init__(self, what: str, data: object) -> None:
        if not isinstance(data, dict):
            raise invalid(f"a {what} must be an object, not {type(data).__name__}")
        self._what = what
        self._data: dict[str, Any] = data

    def _wrong(self, name: str, expected: str) -> AtollError:
        of = self._data.get("name")
        return invalid(f"{name!r} of {self._what}{f' {of}' if of else ''} must be {expected}")

    def text(self, name: str, default: str | None = None) -> str:
        value = self._data.get(name, default)
        if not isinstance(value, str) or "\0" in value or not _encodable(value):
            raise self._wrong(name, "text")
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self._data.get(name) is None else self.text(name)

    def boolean(self, name: str) -> bool:
        value = self._data.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def seconds(self, name: str, default: float) -> float:
        value = self._data.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self._wrong(name, "a positive number of seconds")
        return float(value)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._data.get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def sequence(self, name: str) -> Sequence[Any]:
        value = self._data.get(name, ())
        if not isinstance(value, list | tuple):
            raise self._wrong(name, "a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.sequence(name)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(name, "a list of text")
        return tuple(values)

    def addresses(self, name: str) -> tuple[tuple[str, int], ...]:
        return tuple(self._address(name, value) for value in self.sequence(name))

    def network(self, name: str) -> Namespace | None:
        value = self._data.get(name)
        if value is None:
            return None
        fields = _Fields(name, value)
        return Namespace(fields.text("network"), fields.optional_text("user"))

    def _address(self, name: str, value: object) -> tuple[str, int]:
        match value:
            case [str(host), int(port)] if not isinstance(port, bool) and 0 < port < 65536:
                return host, port
        raise self._wrong(name, "a list of [host, port from 1 to 65535]")
