"""`atoll console`: the verb, and the attached terminal with a real terminal and a real WebSocket."""

import asyncio
import os
import pty
import select
import sys
import termios
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from atoll.cli import terminal
from atoll.runtime import client
from atoll.site import console, wan

PROGRAM = "import sys; from atoll.cli.terminal import attach; why = attach(sys.argv[1]); print(f'[{why}]', file=sys.stderr)"

Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


async def echo(socket: web.WebSocketResponse) -> None:
    await socket.send_bytes(b"login: ")
    async for message in socket:
        await socket.send_bytes(message.data.upper())


async def serving(serve: Serve, use: Callable[[str], Awaitable[None]]) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == "/refused":
            return web.Response(status=409, headers={"X-Atoll-Why": "the server does not run"})
        socket = web.WebSocketResponse(protocols=("binary",))
        await socket.prepare(request)
        await serve(socket)
        await socket.close(message=b"that is all")
        return socket

    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with asyncio.timeout(30):
            await use(f"ws://127.0.0.1:{runner.addresses[0][1]}/x")
    finally:
        await runner.cleanup()


async def piped(url: str, said: bytes) -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, url), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate(said)
    assert process.returncode is not None
    return process.returncode, out, err


class Terminal:
    """A pseudo-terminal in which the program runs."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.before = termios.tcgetattr(self.theirs)
        self.seen = b""

    async def start(self, url: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, url), stdin=self.theirs, stdout=self.theirs, stderr=asyncio.subprocess.PIPE
        )

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    async def sees(self, text: bytes) -> None:
        while text not in self.seen:
            self.seen += await asyncio.to_thread(self._read)

    def _read(self) -> bytes:
        assert select.select([self.ours], [], [], 10)[0], self.seen
        return os.read(self.ours, 4096)

    async def end(self) -> tuple[int, bytes]:
        _out, err = await self.process.communicate()
        assert termios.tcgetattr(self.theirs) == self.before
        os.close(self.ours)
        os.close(self.theirs)
        return await self.process.wait(), err


def test_in_a_terminal_all_keys_but_one_go_to_the_guest():
    said: list[bytes] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"login: ")
        async for message in socket:
            said.append(message.data)
            await socket.send_bytes(b"seen")

    async def use(url: str) -> None:
        there = Terminal()
        await there.start(url)
        await there.sees(b"login: ")
        there.type(b"root\r\x03\x1a\x11\x13\x04")
        await there.sees(b"seen")
        there.type(b"exit\x1dnot sent")
        code, err = await there.end()
        assert (code, err) == (0, b"\r\n[]\n")
        assert b"".join(said) == b"root\r\x03\x1a\x11\x13\x04exit"
        assert b"root" not in there.seen, "the guest must echo the input, not the terminal"

    asyncio.run(serving(serve, use))


@pytest.mark.parametrize("number", [1, 15])
def test_a_terminal_is_as_it_was_when_the_program_is_ended(number):
    async def use(url: str) -> None:
        there = Terminal()
        await there.start(url)
        await there.sees(b"login: ")
        there.type(b"x")
        await there.sees(b"X")
        there.process.send_signal(number)
        assert (await there.end())[0] == 0

    asyncio.run(serving(echo, use))


def test_the_guest_ends_it():
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"x" * 200_000)

    async def use(url: str) -> None:
        code, out, err = await piped(url, b"")
        assert (code, len(out), err) == (0, 200_000, b"[that is all]\n")

    asyncio.run(serving(serve, use))


def test_piped_input_goes_to_the_guest_unchanged():
    async def serve(socket: web.WebSocketResponse) -> None:
        got = b""
        while len(got) < 300_001:
            got += await socket.receive_bytes()
        await socket.send_bytes(got[-3:])

    async def use(url: str) -> None:
        assert await piped(url, b"x" * 299_999 + b"\x1dz") == (0, b"x\x1dz", b"[that is all]\n")

    asyncio.run(serving(serve, use))


def test_consoles_that_can_not_be_opened():
    async def use(url: str) -> None:
        for broken, why in ((url.replace("/x", "/refused"), b"the server does not run"), ("ws://127.0.0.1:1/", b"does not answer")):
            code, out, err = await piped(broken, b"")
            assert (code, out) == (1, b"")
            assert b"AtollError: the console can't be opened: " in err
            assert why in err

    asyncio.run(serving(echo, use))


@pytest.fixture
def attached(monkeypatch):
    urls: list[str] = []
    monkeypatch.setattr(client, "connect", lambda _root: object())
    monkeypatch.setattr(wan, "enter", lambda _state, _cloud, site: urls.append(f"in {site}"))
    monkeypatch.setattr(terminal, "attach", lambda url: urls.append(url) or "the guest's end of the console is closed")
    found = {"web": console.Console("web", "lyon", "ws://x/console/lyon/serial?token=t")}
    monkeypatch.setattr(console, "Consoles", lambda _settings: type("Found", (), {"serial": staticmethod(found.__getitem__)}))
    return urls


def test_verb(atoll, cloud, attached):
    ran = atoll("console", "web")
    assert (ran.code, ran.out, ran.err) == (
        0,
        "",
        "disconnected from the console of web at lyon: the guest's end of the console is closed\n",
    )
    assert attached == ["in paris", "ws://x/console/lyon/serial?token=t"]
    attached.clear()
    assert atoll("console", "--site", "lyon", "web").code == 0
    assert attached[0] == "in lyon"
    assert atoll("console").code == 2
    assert atoll("console", "--site", "oslo", "web").err.startswith("error: no site is called oslo")


def test_verb_without_a_cloud_that_runs(atoll, cloud):
    ran = atoll("console", "web")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: paris is not running")
