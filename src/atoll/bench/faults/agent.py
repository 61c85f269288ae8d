"""An agent: a process in the network of a site that runs the site's clients, or reads the site's contents.

`python -m atoll.bench.faults.agent` reads its task (`Task`) as one JSON object from the standard input, and writes the result as one
JSON object to the standard output.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from atoll.bench import workload
from atoll.bench.faults.client import UNAUTHORIZED, Client, Insider, judged, judged_error
from atoll.bench.faults.log import Log
from atoll.bench.faults.observe import look
from atoll.bench.faults.operation import Operation, Session
from atoll.bench.faults.workloads import WORKLOADS
from atoll.errors import AtollError

_NO_ANSWER = (OSError, http.client.HTTPException, AtollError)


@dataclass(frozen=True)
class Task:
    """The task of an agent.

    Attributes:
        role: the task's name: `prepare` creates the resources that servers need, `work` runs clients, and `look` reads the site's contents.
        site: the site of the agent.
        gateway: the URL of the identity API at the site's gateway.
        endpoints: the URLs of the site's own services by type.
        password: the password of the cloud's administrator.
        details: for `work`, the clients, tenancy, log and times; for `look`, the parameter `details` of `observe.look`.
    """

    role: str
    site: str
    gateway: str
    endpoints: Mapping[str, str]
    password: str = field(repr=False)
    details: Mapping[str, Any]


def main() -> None:
    """Read a task from standard input, execute it, and write its result to standard output."""
    task = Task(**json.load(sys.stdin))
    roles: dict[str, Callable[[Task], Any]] = {"prepare": _prepare, "work": _work, "look": _look}
    json.dump(roles[task.role](task), sys.stdout)


def _prepare(task: Task) -> dict[str, str]:
    """Create the image and the network that servers need and, unless a flavor exists, a flavor."""
    api = Client(task.gateway, task.password)
    api.sign_in()
    tenancy = workload.prepare(api)
    return {"image": tenancy.image, "flavor": tenancy.flavor, "network": tenancy.network}


def _look(task: Task) -> dict[str, Any]:
    insider, client = Insider(task.endpoints, task.password), Client(task.gateway, task.password)
    try:
        insider.sign_in()
        client.sign_in()
        return look(task.site, insider, client, task.details)
    except _NO_ANSWER as error:
        return {"site": task.site, "error": f"{type(error).__name__}: {error}"}


def _work(task: Task) -> dict[str, int]:
    """Run all clients of the site, each in a thread; return the number of operations that could not be requested, by reason."""
    unasked: Counter[str] = Counter()
    working = []
    with closing(Log(Path(task.details["log"]))) as log, ThreadPoolExecutor(max(1, len(task.details["clients"]))) as pool:
        for name, operations in task.details["clients"].items():
            worker = WorkloadDriver(name, Client(task.gateway, task.password), task.details["tenancy"], log, unasked)
            given = [Operation(**each) for each in operations]
            working.append(pool.submit(worker.work, given, task.details["begin_s"], task.details["end_s"]))
    for each in working:
        each.result()
    return dict(unasked)


class WorkloadDriver:
    """Executes the operations of one client of the schedule.

    Args:
        name: the name of the client.
        api: a client of the APIs that has not signed in yet.
        tenancy: the ids of the image, flavor and network of servers.
        log: the log of its requests.
        unasked: counts the operations that the client could not request, by reason.
    """

    def __init__(self, name: str, api: Client, tenancy: Mapping[str, str], log: Log, unasked: Counter[str]) -> None:
        self._name = name
        self._api = api
        self._session = Session(tenancy, self._look_up)
        self._log = log
        self._unasked = unasked
        self._number = 0

    def work(self, operations: list[Operation], begin_s: float, end_s: float) -> None:
        """Execute operations one after the other, none before its time and none after the end.

        Args:
            operations: the operations in their order.
            begin_s: the beginning of the run, in seconds of the monotonic clock, which all processes share.
            end_s: the end of the run, by the same clock.
        """
        for operation in operations:
            time.sleep(max(0.0, begin_s + operation.at_s - time.monotonic()))
            if time.monotonic() > end_s:
                return
            self._do(operation)

    def _do(self, operation: Operation) -> None:
        if not self._api.token and not self._signed_in():
            return
        work = WORKLOADS[operation.type]
        request = work.request(self._session, operation)
        if request is None:
            self._unasked["never made"] += 1
            return
        self._number += 1
        self._log.sent(self._name, self._number, operation, request.id)
        try:
            answer = self._api.call(request.service, request.method, request.path, request.body, request.data)
        except _NO_ANSWER as error:
            self._log.answered(self._name, self._number, judged_error(error), f"{type(error).__name__}: {error}", request.id)
            return
        id_ = request.id
        if answer.ok and not id_:
            id_ = work.made(answer)
            self._session.learn(operation.resource, id_)
        said = "" if answer.ok else f" {json.dumps(answer.body)[:200]}"
        self._log.answered(self._name, self._number, judged(answer), f"{answer.status}{said}", id_)
        if answer.status == UNAUTHORIZED:
            self._signed_in()

    def _look_up(self, name: str) -> str:
        try:
            answer = self._api.call("identity", "GET", f"/users?{urlencode({'name': name})}")
        except _NO_ANSWER:
            return ""
        found = answer.body["users"] if answer.ok else []
        return str(found[0]["id"]) if len(found) == 1 else ""

    def _signed_in(self) -> bool:
        try:
            self._api.sign_in()
        except _NO_ANSWER:
            self._unasked["no token"] += 1
            return False
        return True


if __name__ == "__main__":
    main()
