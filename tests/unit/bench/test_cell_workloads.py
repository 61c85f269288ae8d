"""The workloads of cells, against APIs that answer from memory."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from atoll.bench import cell_workloads
from atoll.bench.api import Answer
from atoll.bench.cell_workloads import WORKLOADS, CellRecorder, Place
from atoll.bench.failure import failed


class MemoryApi:
    """Answers as a site with no WAN would; servers are ACTIVE at the second look."""

    def __init__(self) -> None:
        self.servers, self.asked, self.looked, self.broken = {}, [], [], False

    def sign_in(self):
        self.asked.append("token")
        if self.broken:
            raise OSError("connection refused")

    def expect(self, _service, method, path, body=None, data=None):
        self.asked.append(f"{method} {path.partition('?')[0]}")
        if method == "POST" and path == "/servers":
            self.servers["one"] = {**body["server"], "status": "BUILD"}
            return {"server": {"id": "one"}}
        if path.startswith("/servers/one"):
            server, self.servers["one"] = self.servers["one"], {**self.servers["one"], "status": "ERROR" if self.broken else "ACTIVE"}
            return {"server": server}
        kinds = {"/flavors/detail": {"flavors": []}, "/flavors": {"flavor": {"id": "f"}}, "/v2/images": {"id": "i"}}
        kinds |= {"/v2.0/networks": {"network": {"id": "n"}}}
        return kinds.get(path, {})

    def call(self, _service, method, path):
        self.looked.append(path)
        if method == "DELETE":
            self.servers.clear()
        return Answer(204 if method == "DELETE" else 404, None, {})


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(cell_workloads, "wait_until", lambda check, *_rest: [check() for _ in range(3)])


def record(name, parameters, *places):
    rows = []
    WORKLOADS[name](places, CellRecorder(lambda *fields: rows.append(fields)), parameters, 0)
    return rows


def test_each_site_boots_and_deletes(monkeypatch):
    near, far = MemoryApi(), MemoryApi()
    rows = record("boot", {"times": 2}, Place("paris", near, None), Place("lyon", far, "lyon"))
    assert sorted(row[:2] for row in rows) == [(name, site) for name in ("boot", "delete") for site in ("lyon", "paris") for _ in range(2)]
    assert all(0 <= row[2] == row[3] <= row[4] and row[5] and not row[6] for row in rows)
    assert "POST /v2/images" in near.asked
    assert "POST /v2/images" not in far.asked, "resources are prepared once"
    assert far.looked[:2] == ["/v2.0/networks/n", "/v2.0/networks/n"], "a site that shares a database may have them a moment later"


def test_a_server_goes_to_the_host_of_its_user():
    api, asked = MemoryApi(), []
    original = api.expect
    api.expect = lambda service, method, path, body=None, data=None: asked.append(body) or original(service, method, path, body, data)
    record("boot", {"times": 1}, Place("lyon", api, "lyon"))
    assert {body["server"].get("host") for body in asked if body and "server" in body} == {"lyon"}


@pytest.mark.parametrize(("name", "request_"), [("token", "token"), ("list", "GET /servers/detail"), ("network", "POST /v2.0/networks")])
def test_repeated_workloads_warm_up_once(name, request_):
    api = MemoryApi()
    rows = record(name, {"times": 3}, Place("paris", api, None))
    assert [row[0] for row in rows] == [name] * 3
    assert api.asked.count(request_) == 4


class ServedApi(MemoryApi):
    """Has the endpoints of a server that answers each request with its method and path."""

    def __init__(self, url) -> None:
        super().__init__()
        self.base, self.token = url, "secret"

    def url(self, service, path):
        return f"{self.base}/{service}{path}"

    def credentials(self):
        return {"auth": "password"}


@pytest.fixture
def served():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path, self.headers.get("X-Auth-Token"), body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def __getattr__(self, name):
            return self.answer if name in {"do_GET", "do_POST"} else super().__getattribute__(name)

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("open-load", {"operation": "token", "rate": 40.0, "arrivals": "constant", "seconds": 0.5}),
        ("closed-load", {"operation": "list", "users": 3, "think_s": 0.05, "seconds": 0.5}),
    ],
)
def test_loads_of_all_sites_are_recorded(name, parameters, served):
    url, asked = served
    places = [Place(site, ServedApi(url), None) for site in ("paris", "lyon")]
    rows = record(name, parameters, *places)
    assert {row[1] for row in rows} == {"paris", "lyon"}
    assert all(row[0] == parameters["operation"] and row[5] and row[2] <= row[3] <= row[4] for row in rows), rows[0]
    assert len(asked) > len(rows), "a warm-up comes first"
    if name == "open-load":
        assert len(rows) == 40
        assert asked[0] == ("POST", "/identity/auth/tokens", None, b'{"auth": "password"}')
    else:
        assert asked[0] == ("GET", "/compute/servers/detail", "secret", b"")


def test_an_operation_that_fails_is_recorded():
    rows = []
    recorder = CellRecorder(lambda *fields: rows.append(fields))

    def refuse():
        raise failed("HTTP 500")

    assert recorder.measure("token", "paris", refuse) is None
    assert recorder.measure("token", "paris", lambda: 7) == 7
    assert [row[5:] for row in rows] == [(False, "HTTP 500"), (True, "")]


def test_a_bug_is_not_recorded_as_a_failure():
    with pytest.raises(ZeroDivisionError):
        CellRecorder(lambda *_fields: None).measure("token", "paris", lambda: 1 / 0)


def test_users_work_one_after_the_other_if_the_order_says_so():
    busy, most, lock, meeting = [0], [0], threading.Lock(), threading.Barrier(3)

    class Busy(MemoryApi):
        together = True

        def sign_in(self):
            with lock:
                busy[0] += 1
                most[0] = max(most[0], busy[0])
            if self.together:
                meeting.wait(60)  # ends only if all three sign in at the same time
            with lock:
                busy[0] -= 1

    places = [Place(site, Busy(), None) for site in ("paris", "lyon", "nice")]
    begun = []
    recorder = CellRecorder(lambda *_fields: None, lambda: begun.append(most[0]))
    WORKLOADS["token"](places, recorder, {"times": 2, "order": "together"}, 0)
    assert begun == [3], "the measured operations begin after those that fill caches"
    assert most == [3]
    busy[0], Busy.together = 0, False
    recorder = CellRecorder(lambda *_fields: None, lambda: most.__setitem__(0, 0))
    WORKLOADS["token"](places, recorder, {"times": 2, "order": "in-turn"}, 0)
    assert most == [1]


def test_separate_regions_have_images_and_networks_of_their_own():
    apis = {site: MemoryApi() for site in ("north", "south")}
    record("boot", {"times": 1}, *(Place(site, api, None, alone=True) for site, api in apis.items()))
    assert all("POST /v2/images" in api.asked for api in apis.values())
    apis = {site: MemoryApi() for site in ("north", "south")}
    record("boot", {"times": 1}, *(Place(site, api, None) for site, api in apis.items()))
    assert ["POST /v2/images" in api.asked for api in apis.values()] == [True, False]


@pytest.mark.parametrize(
    ("at", "shares"), [("first", {"paris": 7}), ("each", {"paris": 4, "lyon": 3})], ids=["at the first site", "shared by the sites"]
)
def test_many_servers_boot_at_the_first_site_or_in_equal_shares(monkeypatch, at, shares):
    booted, deleted, rows, allowed = {}, [], [], []
    monkeypatch.setattr("atoll.bench.workload.allow", lambda *which: allowed.append(which))
    monkeypatch.setattr("atoll.bench.workload.sees", lambda _api, _tenancy: True)
    places = [Place("paris", "api of paris", None), Place("lyon", "api of lyon", None)]
    monkeypatch.setattr("atoll.bench.workload.prepare", lambda api: f"tenancy of {api}")
    monkeypatch.setattr("atoll.bench.workload.boot_one", lambda _api, _tenancy, _times: [1.0])
    monkeypatch.setattr(
        "atoll.bench.workload.boot_many", lambda api, tenancy, count, at_once: booted.update({api: (tenancy, count, at_once)})
    )
    monkeypatch.setattr("atoll.bench.workload.delete_all", lambda api, _at_once: deleted.append(api))
    WORKLOADS["boot-many"](places, CellRecorder(lambda *fields: rows.append(fields)), {"servers": 7, "at_once": 2, "at": at}, 0)
    assert booted == {f"api of {site}": ("tenancy of api of paris", count, 2) for site, count in shares.items()}
    assert sorted(row[1] for row in rows) == sorted(shares)
    assert allowed == [(f"api of {site}", 7) for site in shares], "a site's quota is 200 servers"
    assert deleted == (["api of paris"] if at == "first" else []), "the end of the cloud removes the others"
