"""The requests of nova-compute to the gateway that brings a base, with a gateway that is slow, busy, away or malicious."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from atoll.services.nova.synthesis.gateway_client import LONGEST_S, PATIENCE_S, SPARE_BYTES, SPARE_S, GatewayClient, ServerCreator
from atoll.services.nova.synthesis.overlays import OverlayRefusal

CREATOR = ServerCreator("token", "req-1")


class Gateway(BaseHTTPRequestHandler):
    answers: list[tuple[int, bytes]]
    heard: list[tuple[str, dict[str, str], Any]]
    more: dict[str, str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append((self.path, dict(self.headers), json.loads(body)))
        status, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:1/")
        for name, value in self.more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_words: object) -> None:
        """Print nothing about a request."""


def error(status: int, message: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": {"code": status, "message": message}}).encode()


class Time:
    """A clock that advances by sleeping, and by a second at each look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def clock(self) -> float:
        self.now_s += 1
        return self.now_s


@pytest.fixture
def gateway() -> Iterator[tuple[type[Gateway], GatewayClient, Time]]:
    handler = type("Here", (Gateway,), {"answers": [], "heard": [], "more": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    time = Time()
    yield handler, GatewayClient(f"http://127.0.0.1:{server.server_port}", sleep=time.sleep, clock=time.clock), time
    server.shutdown()
    thread.join()
    server.server_close()


def test_long_transfer_is_waited_for_with_the_creators_token(gateway):
    handler, client, _time = gateway
    handler.answers = [(202, b"{}")] * 3 + [(200, b"{}")]
    client.bring_base("o", CREATOR, {"b", "a"})
    path, headers, body = handler.heard[0]
    assert (path, body) == ("/cloudlet/v1/overlays/o/base", {"wrong": ["a", "b"]})
    assert (headers["X-Auth-Token"], headers["X-Openstack-Request-Id"]) == ("token", "req-1")
    assert len(handler.heard) == 4


def test_reason_of_a_refusal_is_one_short_line(gateway):
    handler, client, _time = gateway
    handler.answers = [error(404, "no site\nhas " + "x" * 500)]
    with pytest.raises(OverlayRefusal, match=r"^no site has x+$") as caught:
        client.bring_base("o", CREATOR)
    assert len(str(caught.value)) == 150


def test_busy_gateway_is_asked_again(gateway):
    handler, client, _time = gateway
    handler.answers = [error(429, "too many"), (500, b"<html>"), (200, b"{}")]
    client.bring_base("o", CREATOR)
    assert len(handler.heard) == 3


@pytest.mark.parametrize("answer", [error(429, "too many requests"), (200, b"{}"), (302, b""), (503, b"[1]")])
def test_gateway_that_never_answers_is_given_up(gateway, answer):
    handler, client, time = gateway
    handler.answers = [answer]
    if answer[0] == 200:
        client = GatewayClient("http://127.0.0.1:1", sleep=time.sleep, clock=time.clock)
    with pytest.raises(OverlayRefusal, match=r"too many requests|does not answer"):
        client.bring_base("o", CREATOR)
    assert PATIENCE_S < time.now_s < 2 * PATIENCE_S


def test_gateway_that_always_goes_on_is_given_up(gateway):
    handler, client, time = gateway
    handler.answers = [(202, b"{}")]
    time.clock = iter((0.0, 1.0, LONGEST_S + 1)).__next__
    client = GatewayClient(client.url, sleep=time.sleep, clock=time.clock)
    with pytest.raises(OverlayRefusal, match="not arrived in 6 hours"):
        client.bring_base("o", CREATOR)


def test_redirect_does_not_carry_the_token_elsewhere(gateway):
    handler, client, _time = gateway
    handler.answers = [(302, b""), (200, b"{}")]
    client.bring_base("o", CREATOR)
    assert len(handler.heard) == 2


def sized(count: int, seconds: str = "1.0") -> dict[str, str]:
    return {"X-Atoll-Size": str(count), "X-Atoll-Expected-Seconds": seconds}


def test_disk_of_a_launch_image_is_fetched(gateway, tmp_path):
    handler, client, _time = gateway
    handler.answers, handler.more = [(200, b"disk" * 100_000)], sized(400_000)
    assert client.fetch_launch("o", CREATOR, ["k"], tmp_path / "disk", 400_000) is True
    assert (tmp_path / "disk").read_bytes() == b"disk" * 100_000
    assert (handler.heard[0][0], handler.heard[0][2]) == ("/cloudlet/v1/overlays/o/launch-image", {"keys": ["k"]})


def test_disk_that_is_absent_too_large_or_too_slow_is_not_used(gateway, tmp_path):
    handler, client, time = gateway
    large = b"x" * (SPARE_BYTES + 10)
    rows = [
        (error(404, "no"), {}, 1000),
        ((200, b"disk"), sized(1001), 1000),
        ((200, large), sized(1), 1000),
        ((200, b"disk"), {}, 1000),
        ((200, b"disk"), sized(4, "x"), 1000),
        ((302, b""), {}, 1000),
    ]
    for number, (answer, more, max_bytes) in enumerate(rows):
        handler.answers, handler.more = [answer], more
        assert client.fetch_launch("o", CREATOR, ["k"], tmp_path / str(number), max_bytes) is False, number
    handler.answers, handler.more = [(200, large)], sized(len(large))
    time.clock = iter((0.0, 1.0, SPARE_S + 5)).__next__
    slow = GatewayClient(client.url, sleep=time.sleep, clock=time.clock)
    assert slow.fetch_launch("o", CREATOR, ["k"], tmp_path / "slow", len(large)) is False
    away = GatewayClient("http://127.0.0.1:1", sleep=time.sleep, clock=time.clock)
    assert away.fetch_launch("o", CREATOR, ["k"], tmp_path / "away", 1000) is False
