"""The real client, against a server that records its requests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

SCOPE = "{image: paris & lyon}"


class Cloud(ThreadingHTTPServer):
    """Keystone and Glance, as far as `openstack image list` needs them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: list[tuple[str, str | None]] = []
        self.traces: list[tuple[str | None, str | None]] = []
        self.strict: list[str | None] = []
        self.missing = ""


class Handler(BaseHTTPRequestHandler):
    server: Cloud

    def do_GET(self) -> None:
        if self.path.startswith("/image/v2/images"):
            self.answer(200, {"images": []})
        elif self.path == "/identity/v3":
            version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": self.server.url + "/identity/v3"}]}
            self.answer(200, {"version": version})
        else:
            links = [{"rel": "self", "href": self.server.url + "/image/v2/"}]
            self.answer(200, {"versions": [{"id": "v2.15", "status": "CURRENT", "links": links}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        endpoint = {"interface": "public", "region": "r", "region_id": "r", "id": "e", "url": self.server.url + "/image"}
        token = {
            "methods": ["password"], "user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}}, "roles": [],
            "expires_at": "2099-01-01T00:00:00Z", "issued_at": "2020-01-01T00:00:00Z",
            "catalog": [{"type": "image", "name": "glance", "id": "s", "endpoints": [endpoint]}],
        }  # fmt: skip
        self.answer(201, {"token": token})

    def answer(self, status: int, body: object) -> None:
        self.server.seen.append((f"{self.command} {self.path.split('?')[0]}", self.headers["X-Scope"]))
        self.server.strict.append(self.headers["X-Atoll-Strict"])
        self.server.traces.append((self.headers.get("traceparent"), self.headers.get("tracestate")))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Subject-Token", "token")
        if self.server.missing and "images" in self.path:
            self.send_header("X-Atoll-Missing", self.server.missing)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    server = Cloud()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def openstack(cloud: Cloud, *arguments: str, **variables: str) -> list[tuple[str, str | None]]:
    """Run the client; return its requests, and the header of each."""
    run(cloud, *arguments, **variables)
    return cloud.seen


def run(cloud: Cloud, *arguments: str, **variables: str) -> str:
    """Run the client; return its standard error."""
    account = {
        "OS_AUTH_URL": cloud.url + "/identity/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p", "OS_PROJECT_NAME": "p",
        "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default", "OS_IDENTITY_API_VERSION": "3", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "ATOLL_"))}
    command = [sys.executable, "-m", "openstackclient.shell", *arguments, "image", "list", "-f", "json"]
    done = subprocess.run(command, env=clean | account | variables, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
    assert {request for request, _ in cloud.seen} >= {"POST /identity/v3/auth/tokens", "GET /image/v2/images"}
    return done.stderr


def test_every_request_carries_the_option(cloud):
    assert {scope for _, scope in openstack(cloud, "--os-scope", SCOPE)} == {SCOPE}


def test_every_request_carries_the_variable(cloud):
    assert {scope for _, scope in openstack(cloud, ATOLL_SCOPE=SCOPE)} == {SCOPE}


def test_without_either_there_is_no_header(cloud):
    assert {scope for _, scope in openstack(cloud)} == {None}


def test_every_request_belongs_to_the_trace_that_the_environment_names(cloud):
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    run(cloud, TRACEPARENT=parent, TRACESTATE="atoll=client@")
    assert set(cloud.traces) == {(parent, "atoll=client@")}
    cloud.traces.clear()
    run(cloud)
    assert set(cloud.traces) == {(None, None)}


def test_strict_goes_with_every_request(cloud):
    assert run(cloud, "--os-strict") == ""
    assert set(cloud.strict) == {"1"}
    cloud.strict.clear()
    assert run(cloud, ATOLL_STRICT="1") == ""
    assert set(cloud.strict) == {"1"}
    cloud.strict.clear()
    assert run(cloud, ATOLL_STRICT="0") == ""
    assert set(cloud.strict) == {None}


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("metz", "warning: site metz does not answer: its own resources are missing or UNKNOWN (X-Atoll-Missing)\n"),
        ("pau,metz", "warning: sites metz, pau do not answer: their own resources are missing or UNKNOWN (X-Atoll-Missing)\n"),
    ],
)
def test_sites_that_an_answer_lacks_are_named_in_one_line(cloud, missing, line):
    cloud.missing = missing
    assert run(cloud) == line
