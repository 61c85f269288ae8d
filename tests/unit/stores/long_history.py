"""The servers, clients and faults of a long history over three sites, and its evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import redis
import sqlalchemy as sa
from history_client import LISTS, META, REFUSED, REGISTERS, keys
from list_append import Txn, anomalies
from redis_server import PROGRAM

from atoll.stores.maintenance import verify
from atoll.stores.store import close_stores, open_store
from atoll.stores.url import parse

SITES = ("paris", "lyon", "nice")
EPOCH_S = 20
"""Seconds for which clients use the same keys; then they turn to new ones, so that values stay short."""

START_S = 60.0


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """Redis or a Sentinel, with a configuration file that it rewrites itself."""

    def __init__(self, directory: Path, lines: list[str], *options: str) -> None:
        directory.mkdir()
        self.port, self._file, self._options = free_port(), directory / "server.conf", options
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", f'logfile "{directory}/log"', *lines]
        self._file.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        assert PROGRAM
        self.process = subprocess.Popen([PROGRAM, str(self._file), *self._options])
        await_true(self.answers, f"the server at {self.port} answers")

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client().ping())
        return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def await_true(condition, what: str, seconds: float = START_S) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


class Servers:
    """Three servers of Redis, of which one is the master, and three Sentinels."""

    def __init__(self, directory: Path) -> None:
        durable = ["appendonly yes", "appendfsync always", 'save ""', "loglevel notice", "repl-diskless-sync-delay 0", "repl-timeout 5"]
        self.redis = [Server(directory / "redis-0", durable)]
        for number in (1, 2):
            self.redis.append(Server(directory / f"redis-{number}", [*durable, f"replicaof 127.0.0.1 {self.redis[0].port}"]))
        watch = [f"sentinel monitor main 127.0.0.1 {self.redis[0].port} 2", "sentinel down-after-milliseconds main 1000"]
        watch += ["sentinel failover-timeout main 6000", "sentinel parallel-syncs main 2"]
        self.sentinels = [Server(directory / f"sentinel-{number}", watch, "--sentinel") for number in range(3)]

    def master(self) -> Server | None:
        """Return the server that most Sentinels consider the master."""
        votes: Counter[int] = Counter()
        for sentinel in self.sentinels:
            with contextlib.suppress(redis.RedisError):
                votes[int(sentinel.client().sentinel_master("main")["port"])] += 1
        port, count = votes.most_common(1)[0] if votes else (0, 0)
        return next((server for server in self.redis if server.port == port and count >= 2), None)

    def whole(self) -> bool:
        """Return whether the master has both replicas, and all Sentinels see this."""
        with contextlib.suppress(redis.RedisError):
            master = self.master()
            if master is None:
                return False
            told: dict = master.client().info("replication")
            online = [told.get(f"slave{number}", {}).get("state") for number in (0, 1)]
            up = [s.client().sentinel_master("main")["num-slaves"] >= 2 for s in self.sentinels]
            return told["role"] == "master" and online == ["online", "online"] and all(up)
        return False

    def stop(self) -> None:
        for server in (*self.sentinels, *self.redis):
            server.process.send_signal(signal.SIGCONT)
            server.kill()


@dataclasses.dataclass
class Client:
    """A client of one site and one level, which the test starts again after each death."""

    url: str
    files: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        self.starts += 1
        path = f"{self.files}-{self.starts}.jsonl"
        command = [sys.executable, "history_client.py", self.url, path, str(EPOCH_S)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parent)

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(90)


class LongHistory:
    """Clients of all levels at three sites, faults, and the report."""

    def __init__(self, directory: Path, levels: tuple[str, ...], seconds: float, seed: int) -> None:
        self.directory, self.levels, self.seconds = directory, levels, seconds
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.servers = Servers(directory)
        await_true(self.servers.whole, "replication works")
        self.clients = [
            Client(self.url(level, site), directory / f"{level}-{site}-{number}")
            for level in levels
            for site in SITES
            for number in ("1", "2")[: 2 if level == "galera" else 1]
        ]

    def url(self, level: str, site: str) -> str:
        first, *more = (f"127.0.0.1:{sentinel.port}" for sentinel in self.servers.sentinels)
        parameters = {"replica": self.directory / f"{level}-{site}.db", "log": level, "cloud": "demo", "site": site, "isolation": level}
        parameters |= {"wait": 1, "service": "main", "timeout": 20}
        query = "&".join([*(f"{name}={value}" for name, value in parameters.items()), *(f"sentinel={each}" for each in more)])
        return f"redis+sentinel://{first}/0?{query}"

    def prepare(self) -> None:
        first = int(time.time() / EPOCH_S) - 1
        epochs = range(first, first + int(self.seconds / EPOCH_S) + 30)
        for level in self.levels:
            engine = sa.create_engine(self.url(level, SITES[0]))
            META.create_all(engine)
            with engine.begin() as connection:
                for table in (LISTS, REGISTERS):
                    connection.execute(table.insert(), [{"k": key, "v": ""} for epoch in epochs for key in keys(table, epoch)])
            engine.dispose()
        close_stores()

    def run(self) -> None:
        """Let the clients work while faults happen, one after the other."""
        for client in self.clients:
            client.start()
        until = time.monotonic() + self.seconds
        actions = (self.kill_client, self.pause_client, self.kill_master, self.pause_master, self.kill_replica, self.kill_sentinel)
        while time.monotonic() < until:
            self.rest(self.random.uniform(2, 6))
            action = self.random.choice(actions)
            self.counts[action.__name__] += 1
            action()
            await_true(self.tended, f"replication is whole after {action.__name__}", 120)
        for client in self.clients:
            client.stop()
        self.tend(start=False)

    def tended(self) -> bool:
        self.tend()
        return self.servers.whole()

    def rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.tend()
            time.sleep(0.1)

    def tend(self, *, start: bool = True) -> None:
        """Act as the operator: reseed the log where a client has refused to go on, and start clients that have ended."""
        for client in self.clients:
            code = client.process.poll() if client.process else 0
            if code is None:
                continue
            assert code in (0, REFUSED, -signal.SIGKILL, -signal.SIGTERM), f"{client.files} ended with {code}: a bug"
            client.process = None
            if code == REFUSED:
                self.repair(client)
            if start:
                client.start()

    def repair(self, client: Client) -> None:
        """Restore the commits that the log has lost; if others have written meanwhile, give this replica up."""
        self.counts["refused"] += 1
        same = [each for each in self.clients if each.url == client.url and each is not client]
        for other in same:
            other.stop()
        done = subprocess.run([sys.executable, "-m", "atoll.stores", "reseed", client.url], capture_output=True, text=True, check=False)
        self.counts["reseeded" if done.returncode == 0 else "replica deleted"] += 1
        if done.returncode:
            path = Path(parse(sa.make_url(client.url)).replica)
            shutil.copy(path, f"{path}.{self.counts['refused']}")
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)

    # Faults

    def kill_client(self) -> None:
        client = self.random.choice(self.clients)
        if client.process:
            client.process.kill()
            client.process.wait()

    def pause_client(self) -> None:
        client = self.random.choice(self.clients)
        if client.process:
            client.process.send_signal(signal.SIGSTOP)
            time.sleep(self.random.uniform(0.5, 6))
            client.process.send_signal(signal.SIGCONT)

    def _master(self) -> Server:
        await_true(lambda: self.servers.master() is not None, "there is a master")
        master = self.servers.master()
        assert master
        return master

    def kill_master(self) -> None:
        old = self._master()
        old.kill()
        if self.random.random() < 0.7:
            await_true(lambda: self.tended() or self.servers.master() not in (None, old), "another server is the master", 60)
        old.start()

    def pause_master(self) -> None:
        """Stop the master's processes for so long that Sentinel may replace it; then it goes on, and does not know this yet."""
        old = self._master()
        old.process.send_signal(signal.SIGSTOP)
        self.rest(self.random.uniform(0.5, 5))
        old.process.send_signal(signal.SIGCONT)

    def kill_replica(self) -> None:
        master = self._master()
        victim = self.random.choice([server for server in self.servers.redis if server is not master])
        victim.kill()
        self.rest(self.random.uniform(0.5, 3))
        victim.start()

    def kill_sentinel(self) -> None:
        victim = self.random.choice(self.servers.sentinels)
        victim.kill()
        self.rest(self.random.uniform(0.5, 3))
        victim.start()

    # Evaluation

    def finals(self, level: str) -> dict[str, dict[str, str]]:
        """Return the values of all lists and registers, which must be alike at all sites, and as in the log."""
        found = []
        for site in SITES:
            engine = sa.create_engine(self.url(level, site))
            store = open_store(parse(engine.url))
            store.catch_up()
            if site == SITES[0]:  # the others are compared with it
                assert verify(store) == [], f"{level} {site}: the replica differs from the log"
            with engine.connect() as connection:
                found.append({table.name: dict(tuple(row) for row in connection.execute(sa.select(table))) for table in (LISTS, REGISTERS)})
            engine.dispose()
        close_stores()
        assert found[0] == found[1] == found[2], f"{level}: the replicas differ"
        return found[0]

    def report(self, level: str) -> dict:
        lines = []
        for path in sorted(self.directory.glob(f"{level}-*.jsonl")):
            lines += [json.loads(line) for line in path.read_text().splitlines()]
        assert not (bugs := [line["bug"] for line in lines if "bug" in line]), bugs[:3]
        history, problems = evaluate(lines, self.finals(level), level)
        outcomes = Counter(txn.outcome for txn in history)
        troubles = Counter(line["trouble"] for line in lines if "trouble" in line)
        refusals = Counter(line["refused"] for line in lines if "refused" in line)
        return {"level": level, **outcomes, "troubles": dict(troubles), "refusals": dict(refusals), "problems": problems}


def chains(writes: dict[str, list[list[str]]], final: dict[str, str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the order of each register's values, from the value that each writer has read; and the contradictions.

    Args:
        writes: for each register, the writes of each transaction: the value that it has read, and its own values in order.
        final: the last value of each register.
    """
    orders: dict[str, tuple[str, ...]] = {}
    problems = []
    for key, last in final.items():
        value = last
        before = {after: first for written in writes.get(key, ()) for first, after in pairwise(written)}
        order: list[str] = []
        while value:
            if value not in before or value in order:
                problems.append(f"{key}: its value {value} has no writer")
                break
            order.append(value)
            value = before[value]
        orders[key] = tuple(reversed(order))
    return orders, problems


def evaluate(lines: list[dict], finals: dict[str, dict[str, str]], level: str) -> tuple[list[Txn], list[str]]:
    """Return the transactions of a history and its anomalies. Registers are checked as lists of their values in order."""
    txns: dict[str, Txn] = {}
    reads: dict[str, list[tuple[str, str]]] = defaultdict(list)
    writes: dict[str, list[list[str]]] = defaultdict(list)
    for line in lines:
        if "begin" in line:
            txn = txns.setdefault(line["begin"], Txn(line["begin"]))
            txn.appends.update({key: list(values) for key, values in line["appends"].items()})
            for key, written in line["writes"].items():
                txn.appends[key] = written[1:]
                writes[key].append(written)
        elif "end" in line and line["end"] in txns:
            txns[line["end"]].outcome = line["outcome"]
            reads[line["end"]] = [tuple(read) for read in line.get("reads", ())]
    orders, problems = chains(writes, finals["registers"])
    final = orders | {key: tuple(text.split()) for key, text in finals["lists"].items()}
    for name, seen in reads.items():
        for key, text in seen:
            if key in finals["lists"]:
                txns[name].reads.append((key, tuple(text.split())))
            elif not text or text in orders[key]:
                order = orders[key]
                txns[name].reads.append((key, order[: order.index(text) + 1] if text else ()))
            else:
                problems.append(f"{name}: read {text} of {key}, which it never had")
    return list(txns.values()), problems + anomalies(list(txns.values()), final, level)
