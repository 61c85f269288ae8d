"""Workloads of several steps, against APIs that answer from memory."""

import itertools
import re
import threading

import pytest

from atoll.bench import workload
from atoll.bench.api import Answer
from atoll.bench.cell_steps import STEPS
from atoll.bench.cell_workloads import CellRecorder, Place
from atoll.bench.failure import failed


class MemoryApi:
    """Makes resources with numbers; servers are ACTIVE at once, and actions change their status."""

    token = "token"

    def __init__(self, name="") -> None:
        self.name, self.asked, self.servers, self.interfaces, self.refused = name, [], {}, [], ""
        self.numbers, self.lock = itertools.count(1), threading.Lock()

    def sign_in(self):
        self.expect("identity", "POST", "/auth/tokens")

    def expect(self, _service, method, path, body=None, data=None):
        with self.lock:
            path = path.partition("?")[0]
            self.asked.append(f"{method} {re.sub('[0-9]+', 'N', path)}")
            if self.refused and re.fullmatch(self.refused, f"{method} {path}"):
                raise failed("refused")
            return self._answer(method, path, body)

    def _answer(self, method, path, body):
        number = str(next(self.numbers))
        if method == "POST" and path == "/servers":
            self.servers[number] = "ACTIVE"
            return {"server": {"id": number}}
        if found := re.fullmatch(r"/servers/(\d+)(/action)?", path):
            if method == "POST":
                self.servers[found[1]] = {"pause": "PAUSED", "unpause": "ACTIVE"}[next(iter(body))]
            return {"server": {"status": self.servers[found[1]], "name": found[1]}}
        if "os-interface" in path:
            self.interfaces = [{"port_id": number}] if method == "POST" else [] if method == "DELETE" else self.interfaces
            return {"interfaceAttachments": self.interfaces, "interfaceAttachment": {"port_id": number}}
        if path.startswith("/servers"):
            return {"servers": [{"id": each, "name": each} for each in self.servers]}
        if method == "GET":
            return {"subnets": [{"id": number}], "ports": [{"id": number}], "flavors": []}
        return {"id": number, "flavor": {"id": number}, **{name: {"id": number} for name in body or ()}}

    def call(self, _service, method, path, headers=None):
        self.asked.append(f"{method} {re.sub('[0-9]+', 'N', path)}")
        if method == "DELETE":
            self.servers.pop(path.rpartition("/")[2], None)
        return Answer(200 if path == "/auth/tokens" else 204 if method == "DELETE" else 404, None, {})


def record(name, api, **parameters):
    rows = []
    parameters = {"times": 2, "order": "together", "megabytes": 0.001, "servers": 3, **parameters}
    STEPS[name]([Place("paris", api, None)], CellRecorder(lambda *fields: rows.append(fields)), parameters, 0)
    return rows


@pytest.mark.parametrize(
    ("name", "operations", "request_"),
    [
        ("floating-ip", ["boot", "associate", "release", "delete"], "POST /vN.N/floatingips"),
        ("pause", ["pause", "unpause"], "POST /servers/N/action"),
        ("attach", ["attach", "detach"], "DELETE /servers/N/os-interface/N"),
        ("subnet", ["subnet"], "DELETE /vN.N/subnets/N"),
        ("port", ["port"], "DELETE /vN.N/ports/N"),
        ("router", ["router"], "PUT /vN.N/routers/N/remove_router_interface"),
        ("security-group", ["security-group"], "DELETE /vN.N/security-groups/N"),
        ("image-boot", ["upload", "boot", "delete", "image-delete"], "DELETE /vN/images/N"),
        ("token-validate", ["token", "validate"], "GET /auth/tokens"),
        ("list-at-scale", ["list"], "GET /servers/detail"),
    ],
)
def test_each_step_is_an_operation(name, operations, request_):
    api = MemoryApi()
    rows = record(name, api)
    assert [row[0] for row in rows] == operations * 2
    assert all(row[1] == "paris" and row[5] and not row[6] for row in rows), rows
    assert api.asked.count(request_) == 3 * (2 if name == "pause" else 1), "the first repetition fills caches"


@pytest.mark.parametrize(
    ("name", "refused", "operations"),
    [
        ("floating-ip", "POST /v2.0/floatingips", ["boot", "associate", "delete"]),
        ("floating-ip", "POST /servers", ["boot"]),
        ("attach", "POST .*os-interface", ["attach"]),
        ("pause", "POST .*action", ["pause"]),
        ("image-boot", "POST /servers", ["upload", "boot", "image-delete"]),
        ("image-boot", "POST /v2/images", ["upload"]),
        ("token-validate", "POST /auth/tokens", ["token"]),
    ],
)
def test_steps_that_need_a_failed_one_are_left_out(name, refused, operations):
    api, rows = MemoryApi(), []

    def begun():
        api.refused = refused

    parameters = {"times": 1, "order": "in-turn", "megabytes": 0.001}
    STEPS[name]([Place("paris", api, None)], CellRecorder(lambda *fields: rows.append(fields), begun), parameters, 0)
    assert [row[0] for row in rows] == operations
    assert sum(not row[5] for row in rows) == 1


def test_the_servers_of_a_long_list_are_shared_by_all_users(monkeypatch):
    booted = []
    monkeypatch.setattr(workload, "boot_many", lambda api, _tenancy, count, _at_once: booted.append((api.name, count)))
    places = [Place(site, MemoryApi(site), None) for site in ("paris", "lyon", "nice")]
    STEPS["list-at-scale"](places, CellRecorder(lambda *_fields: None), {"times": 1, "servers": 5}, 0)
    assert booted == [("paris", 2), ("lyon", 2), ("nice", 1)]
