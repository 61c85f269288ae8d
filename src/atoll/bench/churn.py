"""`atoll bench churn`: many clients that create, list and delete, and a count of what goes wrong."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.bench.measure import Say
from atoll.bench.site import Sites
from atoll.errors import AtollError

HOLD = 3
"""Servers and networks that one client keeps at most: enough that lists are not empty, too few for any quota."""

_LOCKED = "database is locked"
_SHOWN = 3


@dataclass(frozen=True)
class Options:
    """How much to churn.

    Attributes:
        clients: how many, each a thread.
        seconds: for how long.
        seed: of their choices.
    """

    clients: int = 10
    seconds: float = 120.0
    seed: int = 0


@dataclass
class Outcome:
    """What happened.

    Attributes:
        operations: requests answered.
        errors_5xx: answers by which an API admitted an error of its own.
        errors_other: refusals that a correct client should not meet, and answers that never came.
        failed_servers: servers that went to ERROR.
        locked: lines of logs about a locked database.
        leaks: what was left.
        examples: a few of the errors, in words.
    """

    operations: int = 0
    errors_5xx: int = 0
    errors_other: int = 0
    failed_servers: int = 0
    locked: int = 0
    leaks: workload.Leaks = field(default_factory=lambda: workload.Leaks(0, 0, 0))
    examples: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Plain data, the leaks beside the other counts."""
        data = asdict(self)
        del data["leaks"], data["examples"]
        return data | self.leaks.to_json() | {"examples": self.examples}

    @property
    def bad(self) -> list[str]:
        """What should not have been, in words; empty if all went well."""
        return [f"{name}: {count}" for name, count in self.to_json().items() if isinstance(count, int) and count and name != "operations"]


def _is_bad(status: int) -> bool:
    # A 404 or a 409 is what a client may well be told of something that is just going away; 0 stands for no answer.
    return status == 0 or (status >= 400 and status not in (404, 409))


class Tally:
    """Counts the answers that all clients get."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: Counter[int] = Counter()
        self.examples: list[str] = []

    def answer(self, method: str, path: str, status: int) -> None:
        """Take note of an answer."""
        with self._lock:
            self._statuses[status] += 1
            if _is_bad(status) and len(self.examples) < _SHOWN:
                self.examples.append(f"{method} {path}: {status}")

    def silence(self, why: str) -> None:
        """Take note of a request that was never answered."""
        with self._lock:
            self._statuses[0] += 1
            if len(self.examples) < _SHOWN:
                self.examples.append(why)

    def outcome(self) -> Outcome:
        """What was counted so far."""
        with self._lock:
            other = sum(count for status, count in self._statuses.items() if status < 500 and _is_bad(status))
            errors = sum(count for status, count in self._statuses.items() if status >= 500)
            return Outcome(self._statuses.total(), errors, other, examples=list(self.examples))


class Client:
    """One client: does one thing after the other, each chosen at random.

    Args:
        api: signed in.
        tenancy: what its servers are made of.
        name: begins the names of all it makes.
        seed: of its choices.
    """

    def __init__(self, api: Api, tenancy: workload.Tenancy, name: str, seed: int) -> None:
        self._api = api
        self._tenancy = tenancy
        self._name = name
        self._random = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._servers: list[str] = []
        self._networks: list[str] = []
        self._made = 0
        self.failed_servers = 0

    def step(self) -> None:
        """Do one thing.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        steps = (self._create_server, self._create_network, self._list, self._show, self._delete_server, self._delete_network)
        self._random.choice(steps)()

    def finish(self) -> None:
        """Delete what is left, the networks after the servers."""
        workload.delete(self._api, self._servers)
        while self._networks:
            self._delete_network()

    def _new_name(self) -> str:
        self._made += 1
        return f"{self._name}-{self._made}"

    def _create_server(self) -> None:
        if len(self._servers) >= HOLD:
            return self._delete_server()
        body = workload.server_body(self._tenancy, self._new_name())
        answer = self._api.call("compute", "POST", "/servers", body)
        if answer.ok:
            self._servers.append(answer.body["server"]["id"])
        return None

    def _create_network(self) -> None:
        if len(self._networks) >= HOLD:
            return self._delete_network()
        answer = self._api.call("network", "POST", "/v2.0/networks", {"network": {"name": self._new_name()}})
        if not answer.ok:
            return None
        network = answer.body["network"]["id"]
        self._networks.append(network)
        subnet = {"network_id": network, "ip_version": 4, "cidr": "10.91.0.0/24"}
        self._api.call("network", "POST", "/v2.0/subnets", {"subnet": subnet})
        self._api.call("network", "POST", "/v2.0/ports", {"port": {"network_id": network}})
        return None

    def _list(self) -> None:
        service, path = self._random.choice(
            (("compute", "/servers/detail"), ("network", "/v2.0/networks"), ("network", "/v2.0/ports"), ("image", "/v2/images"))
        )
        self._api.call(service, "GET", path)

    def _show(self) -> None:
        if self._servers:
            server = self._random.choice(self._servers)
            answer = self._api.call("compute", "GET", f"/servers/{server}")
            if answer.ok and answer.body["server"]["status"] == "ERROR":
                self.failed_servers += 1
                self._servers.remove(server)
                self._api.call("compute", "DELETE", f"/servers/{server}")

    def _delete_server(self) -> None:
        if self._servers:
            server = self._servers.pop(self._random.randrange(len(self._servers)))
            self._api.call("compute", "DELETE", f"/servers/{server}")

    def _delete_network(self) -> None:
        if self._networks:
            network = self._networks.pop()
            for port in self._api.expect("network", "GET", f"/v2.0/ports?network_id={network}")["ports"]:
                self._api.call("network", "DELETE", f"/v2.0/ports/{port['id']}")
            self._api.call("network", "DELETE", f"/v2.0/networks/{network}")


def run(options: Options, root: Path, environment: Mapping[str, str], say: Say) -> Outcome:
    """Bring a site up, let the clients at it, and count.

    Args:
        options: how many clients, and for how long.
        root: a directory of the experiment's own.
        environment: of the commands that are run.
        say: told what is going on.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    sites = Sites(root, 1, environment)
    say("a site")
    sites.up(1)
    target, tally = sites.target(), Tally()
    api = target.api()
    api.sign_in()
    tenancy = workload.prepare(api)
    clients = []
    for number in range(options.clients):
        own = Api(target.url, target.password, observe=tally.answer)
        own.sign_in()
        clients.append(Client(own, tenancy, f"client-{number}", options.seed * 1000 + number))
    say(f"{options.clients} clients for {options.seconds:.0f} s")
    deadline = time.monotonic() + options.seconds
    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(lambda client: _drive(client, tally, deadline), clients))
    say("deleting what is left")
    workload.delete_all(api, options.clients)
    outcome = tally.outcome()
    outcome.failed_servers = sum(client.failed_servers for client in clients)
    outcome.leaks = workload.leaks(api)
    outcome.locked = _count(sites.state.site("site-1") / "log")
    return outcome


def _drive(client: Client, tally: Tally, deadline: float) -> None:
    while time.monotonic() < deadline:
        _guarded(client.step, tally)
    _guarded(client.finish, tally)


def _guarded(action: Callable[[], None], tally: Tally) -> None:
    try:
        action()
    except (OSError, http.client.HTTPException, AtollError) as error:
        tally.silence(str(error))


def _count(logs: Path) -> int:
    return sum(path.read_text(encoding="utf-8", errors="replace").count(_LOCKED) for path in logs.glob("*.log"))
