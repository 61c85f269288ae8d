"""Overlays from URLs: cuts, servers without ranges, refusals; and from other names."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest

from atoll.cloudlet import source
from atoll.cloudlet.source import UrlSource
from atoll.errors import AtollError


class Server:
    """A server of one file.

    Attributes:
        content: the file.
        ranges: whether it knows ranges.
        cuts: after how many bytes each of the next answers ends early.
        damaged: the number of answers in which byte 2,000 of the file is wrong.
        requests: the ranges that were requested.
        headers: further headers of each answer.
        length: the length that each answer promises; `None` means its own.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.ranges, self.status = content, True, 0
        self.cuts: list[int] = []
        self.damaged = 0
        self.requests: list[str] = []
        self.headers: dict[str, str] = {}
        self.length: int | None = None

    @contextmanager
    def running(self) -> Iterator[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/overlay"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def handler(self):
        ours = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range", "")
                ours.requests.append(asked)
                first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ours.ranges else 0
                if ours.ranges and not ours.status and first >= len(ours.content):
                    self.send_error(416)
                    return
                content = bytearray(ours.content)
                if ours.damaged:
                    ours.damaged -= 1
                    content[2000] ^= 1
                body = content[first:]
                self.send_response(ours.status or (206 if ours.ranges else 200))
                self.send_header("Content-Length", str(len(body) if ours.length is None else ours.length))
                for name, value in ours.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: ours.cuts.pop(0)] if ours.cuts else body)

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def server() -> Server:
    return Server(bytes(range(256)) * 40)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_transfer_goes_on_after_cuts(server, ranges):
    server.ranges, server.cuts = ranges, [1000, 2500, 0]
    pauses: list[float] = []
    with server.running() as url:
        found = UrlSource(url, pauses.append)
        assert found.read(600) + found.read(len(server.content) - 600) == server.content
        found.expect_end()
        found.close()
    expected = ["bytes=0-", "bytes=1000-", "bytes=3500-", "bytes=3500-"] if ranges else None
    assert expected is None or server.requests == expected
    assert pauses[0] == 0.5


def test_a_server_that_stays_away(server):
    server.cuts = [1000, *[0] * 20]
    with server.running() as url:
        found = UrlSource(url, lambda _seconds: None)
        with pytest.raises(AtollError, match="failed at byte 1000, 6 times") as caught:
            found.read(2000)
        found.close()
    assert caught.value.kind.code == "cloudlet.source"
    assert "same command" in caught.value.hint


@pytest.mark.parametrize(("status", "said"), [(404, "answers 404"), (403, "answers 403"), (416, "has no byte"), (503, "answers 503")])
def test_refusals(server, status, said):
    server.status = status
    with server.running() as url, pytest.raises(AtollError, match=said):
        UrlSource(url, lambda _seconds: None).read(1)
    assert len(server.requests) == (source.ATTEMPTS if status == 503 else 1)


LOCATIONS = {
    "file": ("file:///etc/passwd", "this URL can't be fetched"),
    "another scheme": ("ftp://localhost/overlay", "this URL can't be fetched: Not supported URL scheme ftp"),
    "itself": ("/overlay", "redirects too often"),
}


@pytest.mark.parametrize(("location", "said"), LOCATIONS.values(), ids=LOCATIONS)
def test_redirections_that_are_refused_without_a_retry(server, location, said):
    server.status, server.headers = 302, {"Location": location}
    with server.running() as url, pytest.raises(AtollError, match=said) as caught:
        UrlSource(url, pytest.fail).read(1)
    assert caught.value.kind.code == "cloudlet.source"
    assert len(server.requests) == (6 if location == "/overlay" else 1)


def test_malformed_redirection_is_refused_without_a_retry(monkeypatch):
    found = UrlSource("http://localhost/", pytest.fail)

    def refuse(*_arguments, **_options):
        raise ValueError("Invalid IPv6 URL")

    monkeypatch.setattr(found._pool, "request", refuse)
    with pytest.raises(AtollError, match="this URL can't be fetched: Invalid IPv6 URL"):
        found.read(1)


@pytest.mark.parametrize("name", ["http://[::bad", "http://", "http://host:port/"])
def test_malformed_urls_are_refused_without_a_retry(name):
    with pytest.raises(AtollError, match="this URL can't be fetched") as caught:
        UrlSource(name, pytest.fail).read(1)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("more", [{"Content-Encoding": "gzip"}, {"Transfer-Encoding": "chunked"}, {}], ids=["gzip", "chunks", "cut"])
def test_failure_behind_the_whole_overlay_is_its_end(server, more):
    """The server promises more than it sends, and names a coding that its content has not."""
    whole = server.content
    server.headers, server.length = more, len(whole) + 100
    if "Transfer-Encoding" in more:
        server.content = b"%x\r\n" % len(whole) + whole + b"\r\nZZZ\r\n"
    with server.running() as url:
        found = UrlSource(url)
        assert found.read(len(whole)) == whole
        found.expect_end()
        found.close()


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("coding", [{}, {"Content-Encoding": "gzip"}], ids=["plain", "gzip"])
def test_bytes_behind_the_overlay_are_refused_each_time(machine, tmp_path, ranges, coding):
    server = Server(machine.overlay() + b"more")
    server.ranges, server.headers = ranges, coding
    for _ in range(2):
        with (
            server.running() as url,
            source.opened(url, BytesIO()) as found,
            pytest.raises(AtollError, match="more bytes follow the overlay"),
        ):
            machine.apply_from(found, tmp_path / "launch")
    assert not (tmp_path / "launch").exists()
    server.content = server.content[:-4]
    with server.running() as url, source.opened(url, BytesIO()) as found:
        assert machine.apply_from(found, tmp_path / "launch").resumed > 0
    machine.check(tmp_path / "launch")


def test_skip_asks_for_the_rest_only(server):
    with server.running() as url:
        found = UrlSource(url)
        found.read(10)
        found.skip_to(9000)
        assert found.read(10) == server.content[9000:9010]
        found.close()
    assert server.requests == ["bytes=0-", "bytes=9000-"]


def test_damaged_segment_is_fetched_again(machine, tmp_path):
    server = Server(machine.overlay())
    server.damaged = 1
    with server.running() as url, source.opened(url, BytesIO()) as found:
        machine.apply_from(found, tmp_path / "launch")
    machine.check(tmp_path / "launch")
    assert len(server.requests) == 2


def test_segment_that_stays_damaged(machine, tmp_path):
    server = Server(machine.overlay())
    server.damaged = 100
    with server.running() as url, source.opened(url, BytesIO()) as found, pytest.raises(AtollError, match="is damaged"):
        machine.apply_from(found, tmp_path / "launch")
    assert len(server.requests) == 3
    assert not (tmp_path / "launch").exists()


@pytest.mark.parametrize("name", ["ftp://host/overlay", "file:///etc/passwd"])
def test_other_schemes(name):
    with pytest.raises(AtollError, match="not supported"), source.opened(name, BytesIO()):
        pass


def test_missing_file(tmp_path):
    with pytest.raises(AtollError, match="no such file"), source.opened(str(tmp_path / "missing"), BytesIO()):
        pass


def test_standard_input():
    with source.opened("-", BytesIO(b"overlay")) as found:
        assert found.read(7) == b"overlay"
        found.expect_end()
        with pytest.raises(AtollError, match="standard input ends after 7 bytes"):
            found.read(1)
