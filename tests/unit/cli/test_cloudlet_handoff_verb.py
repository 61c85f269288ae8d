"""`atoll cloudlet handoff`: it waits for the end, survives a gateway that is away for a moment, and prints each failure in one line."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from keystoneauth1.exceptions import ConnectFailure

from atoll.cloudlet import handoff_request

SERVER = "710834c4-9ed3-43b4-99de-1098a4aee109"
STATE = {"id": "h", "server": SERVER, "from": "paris", "site": "nice", "reason": "", "result": {}, "running": True, "progress": {}}
DONE = {"state": "done", "result": {"addresses": [{"address": "10.0.0.5", "mac": "fa:16:3e:00:00:01"}]}}


class Session:
    """A session that answers requests in order; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), []

    def request(self, url: str, method: str, **more: Any) -> Any:
        self.asked.append((method, url.removeprefix("http://gateway"), more.get("json")))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return SimpleNamespace(status_code=status, ok=status < 400, json=lambda: body)

    def get(self, url: str, **more: Any) -> Any:
        return self.request(url, "GET", **more)


@pytest.fixture
def hand_off(monkeypatch, atoll):
    """Return a function that runs the command against the given answers of a gateway."""

    def handed_off(*answers: Any, name: str = SERVER) -> tuple[Any, Session]:
        session = Session(*answers)
        config = SimpleNamespace(get_session=lambda: session)
        monkeypatch.setattr(handoff_request, "credentials", lambda _cloud: (config, "http://gateway"))
        monkeypatch.setattr(handoff_request, "LOOK_S", 0)
        return atoll("cloudlet", "handoff", name, "nice", "--json"), session

    return handed_off


def shown(state: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return (200 if state in {"done", "failed"} else 202), STATE | {"state": state} | more


def refusal(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": status, "message": message}}


def test_command_waits_until_the_server_is_there(hand_off):
    listed = 200, {"servers": [{"id": SERVER, "name": "web"}, {"id": "x", "name": "web-2"}]}
    away = ConnectFailure("no route")
    done, session = hand_off(listed, shown("copying"), away, refusal(503, "site paris: gone"), shown("fenced"), shown(**DONE), name="web")
    assert done.code == 0, done
    printed = json.loads(done.out)
    assert (printed["server"], printed["source"], printed["site"]) == (SERVER, "paris", "nice")
    assert printed["addresses"] == DONE["result"]["addresses"]
    path = f"/cloudlet/v1/servers/{SERVER}/handoff"
    assert session.asked[1:3] == [("POST", path, {"site": "nice"}), ("GET", f"{path}?id=h", None)]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([refusal(409, "the server is locked: unlock it first")], "the server is locked: unlock it first"),
        ([refusal(404, f"no site that can be reached has a server {SERVER} of your project")], f"a server {SERVER} of your project"),
        ([refusal(503, "site nice: it can't be reached from paris")], "site nice: it can't be reached from paris"),
        ([shown("copying"), shown("failed", reason="nice has no flavor m1.edge")], "nice has no flavor m1.edge"),
        ([shown("copying"), shown("copying", running=False)], "the hand-off was interrupted"),
        ([(502, "<html>")], "HTTP 502, and no message"),
        ([ConnectFailure("Unable to establish connection")], "Unable to establish connection"),
    ],
)
def test_failures_are_one_line(hand_off, answers, message):
    done, _ = hand_off(*answers)
    assert done.code == 1
    [line] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_name_of_no_or_two_servers(hand_off):
    none, _ = hand_off((200, {"servers": []}), name="web")
    two, _ = hand_off((200, {"servers": [{"id": "1", "name": "web"}, {"id": "2", "name": "web"}]}), name="web")
    assert "no server is called web" in none.err
    assert "2 servers are called web" in two.err
