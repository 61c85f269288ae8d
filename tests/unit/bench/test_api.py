import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from atoll.bench.api import Api
from atoll.bench.target import Target, await_answers
from atoll.errors import AtollError


class Handler(BaseHTTPRequestHandler):
    """The five APIs of a tiny cloud; tests may change `answers`."""

    answers: dict[str, tuple[int, object]]
    seen: list[tuple[str, str | None, str | None]]
    url: str

    def do_POST(self):
        self.do_GET()

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length).decode()
        self.seen.append((self.path, self.headers.get("X-Auth-Token"), body))
        status, answer = self.answers.get(self.path, (404, {"error": "no such thing"}))
        payload = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("X-Subject-Token", "token")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_args):
        pass


@pytest.fixture
def cloud():
    class Own(Handler):
        answers: ClassVar[dict[str, Any]] = {}
        seen: ClassVar[list[Any]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    kinds = ("image", "network", "placement", "compute")
    catalog = [
        {"type": kind, "endpoints": [{"interface": "admin", "url": "x"}, {"interface": "public", "url": f"{url}/{kind}"}]} for kind in kinds
    ]
    Own.answers["/v3/auth/tokens"] = (201, {"token": {"catalog": catalog}})
    Own.answers["/image/v2/images"] = (200, {"images": []})
    Own.answers["/network/v2.0/networks"] = (200, {"networks": []})
    Own.answers["/placement/resource_providers"] = (200, {"resource_providers": [{"name": "paris"}]})
    Own.answers["/compute/os-services?binary=nova-compute"] = (200, {"services": [{"host": "paris", "state": "up"}]})
    Own.url = url + "/v3"
    yield Own
    server.shutdown()
    server.server_close()
    thread.join()


def test_signs_in_and_finds_the_other_apis(cloud):
    told = []
    api = Api(cloud.url, "secret", observe=lambda *what: told.append((*what[:3], json.loads(what[3]))))
    api.sign_in()
    assert api.expect("image", "GET", "/v2/images") == {"images": []}
    assert cloud.seen[-1][:2] == ("/image/v2/images", "token")
    assert "secret" in cloud.seen[0][2]
    assert [each[:3] for each in told] == [("POST", "identity /auth/tokens", 201), ("GET", "image /v2/images", 200)]
    assert told[1][3] == {"images": []}


def test_refused_password(cloud):
    cloud.answers["/v3/auth/tokens"] = (401, {"error": "wrong"})
    with pytest.raises(AtollError, match=r"HTTP 401.*wrong"):
        Api(cloud.url, "x").sign_in()


def test_expect_tells_what_was_answered(cloud):
    api = Api(cloud.url, "secret")
    api.sign_in()
    with pytest.raises(AtollError, match="compute GET /nowhere: HTTP 404"):
        api.expect("compute", "GET", "/nowhere")


def test_answer_that_is_not_json(cloud):
    cloud.answers["/v3/text"] = (503, "<html>busy</html>")
    answer = Api(cloud.url, "secret").call("identity", "GET", "/text")
    assert (answer.status, answer.ok, answer.body) == (503, False, "<html>busy</html>")


def test_expect_of_a_server_that_is_not_there():
    with pytest.raises(AtollError, match="no answer"):
        Api("http://127.0.0.1:1/v3", "secret").expect("identity", "GET", "/")


def target(cloud, host="paris"):
    return Target(cloud.url, "secret", host, list)


def test_await_answers(cloud):
    await_answers(target(cloud), lambda: None, 5)
    assert [path for path, _token, _body in cloud.seen][-1] == "/compute/os-services?binary=nova-compute"


@pytest.mark.parametrize(
    ("path", "answer", "name"),
    [
        ("/v3/auth/tokens", (503, {}), "identity"),
        ("/image/v2/images", (200, {"versions": []}), "image"),
        ("/network/v2.0/networks", (401, {"error": "who?"}), "network"),
        ("/placement/resource_providers", (200, {"resource_providers": []}), "placement"),
        ("/compute/os-services?binary=nova-compute", (200, {"services": [{"host": "paris", "state": "down"}]}), "compute"),
    ],
)
def test_a_wrong_answer_is_ignored(cloud, path, answer, name):
    cloud.answers[path] = answer
    with pytest.raises(AtollError, match=f"the {name} API .* has not answered correctly"):
        await_answers(target(cloud), lambda: None, 0)


def test_await_answers_ends_with_what_it_waits_for(cloud):
    cloud.answers["/v3/auth/tokens"] = (503, {})

    def dead():
        raise AtollError("bench.failed", "it died")

    with pytest.raises(AtollError, match="it died"):
        await_answers(target(cloud), dead, 60)
