"""`atoll bench churn`: has many clients create, list and delete resources, and counts failures."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.bench.leaks import Leaks, count_leaks
from atoll.bench.site import Sites
from atoll.bench.workspace import Workspace
from atoll.cloud.databases import SQLITE, parse_database
from atoll.errors import AtollError

HOLD = 3
"""Greatest number of servers, and of networks, that one client keeps: enough for non-empty lists, too few for any quota."""

_LOCKED = "database is locked"
_SHOWN = 3
_SHOWN_BYTES = 300


@dataclass(frozen=True)
class ChurnOptions:
    """The size of the experiment.

    Attributes:
        clients: the number of clients; each is a thread.
        seconds: the length of the run in seconds.
        seed: the seed of their random choices.
        database: the place of the site's databases, as `parse_database` reads it.
    """

    clients: int = 10
    seconds: float = 120.0
    seed: int = 0
    database: str = SQLITE


@dataclass
class ChurnOutcome:
    """The counts of the experiment.

    Attributes:
        operations: the number of answered requests.
        errors_5xx: the number of answers with a status of 500 or more.
        errors_other: the number of refusals that a correct client should not meet, and of requests without an answer.
        failed_servers: the number of servers that went to ERROR.
        locked: the number of log lines about a locked database.
        leaks: the resources that still existed after everything had been deleted.
        examples: descriptions of a few of the errors.
    """

    operations: int = 0
    errors_5xx: int = 0
    errors_other: int = 0
    failed_servers: int = 0
    locked: int = 0
    leaks: Leaks = field(default_factory=lambda: Leaks(0, 0, 0))
    examples: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Return the counts, ready for `json.dumps`; those of `leaks` are on the top level."""
        data = asdict(self)
        del data["leaks"], data["examples"]
        return data | self.leaks.to_json() | {"examples": self.examples}

    @property
    def bad(self) -> list[str]:
        """Descriptions of the failures; empty if there were none."""
        return [f"{name}: {count}" for name, count in self.to_json().items() if isinstance(count, int) and count and name != "operations"]


def _is_bad(status: int) -> bool:
    # 404 and 409 are correct answers about a resource that is being deleted. 0 stands for no answer.
    return status == 0 or (status >= 400 and status not in (404, 409))


class AnswerTally:
    """A thread-safe count of the answers to all clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: Counter[int] = Counter()
        self.examples: list[str] = []

    def answer(self, method: str, path: str, status: int, body: bytes) -> None:
        """Count an answer by its status; an example of a bad one has the beginning of its body, too."""
        with self._lock:
            self._statuses[status] += 1
            if _is_bad(status) and len(self.examples) < _SHOWN:
                self.examples.append(f"{method} {path}: {status} {body[:_SHOWN_BYTES].decode(errors='replace')}")

    def silence(self, why: str) -> None:
        """Count a request that got no answer; `why` is the reason, for the examples."""
        with self._lock:
            self._statuses[0] += 1
            if len(self.examples) < _SHOWN:
                self.examples.append(why)

    def outcome(self) -> ChurnOutcome:
        """Return the counts so far."""
        with self._lock:
            other = sum(count for status, count in self._statuses.items() if status < 500 and _is_bad(status))
            errors = sum(count for status, count in self._statuses.items() if status >= 500)
            return ChurnOutcome(self._statuses.total(), errors, other, examples=list(self.examples))


class ChurnClient:
    """A client that makes one random request after the other.

    Args:
        api: a client of the APIs, signed in.
        tenancy: the image, flavor and network of its servers.
        name: the prefix of the names of its resources.
        seed: the seed of its random choices.
    """

    def __init__(self, api: Api, tenancy: workload.Tenancy, name: str, seed: int) -> None:
        self._api = api
        self._tenancy = tenancy
        self._name = name
        self._random = random.Random(seed)
        self._servers: list[str] = []
        self._networks: list[str] = []
        self._made = 0
        self.failed_servers = 0

    def step(self) -> None:
        """Make one random request.

        Raises:
            OSError, http.client.HTTPException: the request got no answer.
        """
        steps = (self._create_server, self._create_network, self._list, self._show, self._delete_server, self._delete_network)
        self._random.choice(steps)()

    def finish(self) -> None:
        """Delete the client's resources, servers before networks."""
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


def run(options: ChurnOptions, work: Workspace) -> ChurnOutcome:
    """Start a site, run the clients against it, and count the failures.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    sites = Sites(work.root, 1, work.environment, parse_database(options.database))
    work.say("starting a site")
    sites.up(1)
    target, tally = sites.target(), AnswerTally()
    api = target.api()
    api.sign_in()
    tenancy = workload.prepare(api)
    clients = []
    for number in range(options.clients):
        own = Api(target.url, target.password, observe=tally.answer)
        own.sign_in()
        clients.append(ChurnClient(own, tenancy, f"client-{number}", options.seed * 1000 + number))
    work.say(f"{options.clients} clients for {options.seconds:.0f} s")
    deadline = time.monotonic() + options.seconds
    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(lambda client: _drive(client, tally, deadline), clients))
    work.say("deleting the resources that are left")
    workload.delete_all(api, options.clients)
    outcome = tally.outcome()
    outcome.failed_servers = sum(client.failed_servers for client in clients)
    outcome.leaks = count_leaks(api)
    outcome.locked = _count(sites.state.site("site-1") / "log")
    return outcome


def _drive(client: ChurnClient, tally: AnswerTally, deadline: float) -> None:
    while time.monotonic() < deadline:
        _guarded(client.step, tally)
    _guarded(client.finish, tally)


def _guarded(action: Callable[[], None], tally: AnswerTally) -> None:
    try:
        action()
    except (OSError, http.client.HTTPException, AtollError) as error:
        tally.silence(str(error))


def _count(logs: Path) -> int:
    return sum(path.read_text(encoding="utf-8", errors="replace").count(_LOCKED) for path in logs.glob("*.log"))
