import json

import pytest

from atoll.errors import AtollError
from atoll.runtime.spec import ForkServer, Plan, Process

SERVER = ForkServer("server", "module:preload")
PROCESS = Process(
    "paris/one",
    "server",
    "module:run",
    {"number": 1},
    needs=("paris/two",),
    listen=(("127.0.0.1", 8080), ("::1", 8080)),
    log="/log",
    directory="/tmp",
    ready_timeout_s=1.5,
    stop_timeout_s=2.5,
)
OTHER = Process("paris/two", "server", "module:run", job=True)
PLAN = Plan((SERVER,), (PROCESS, OTHER))


def test_a_plan_survives_json():
    assert Plan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": 5}, "'name' of process 5 must be text"),
        ({"entry": None}, "'entry' of process one must be text"),
        ({"entry": "\ud800"}, "'entry' of process one must be text"),
        ({"log": "/a\0b"}, "'log' of process one must be text"),
        ({"job": 1}, "'job' of process one must be true or false"),
        ({"arguments": []}, "'arguments' of process one must be an object"),
        ({"needs": "two"}, "'needs' of process one must be a list"),
        ({"needs": [2]}, "'needs' of process one must be a list of text"),
        ({"listen": [["host"]]}, "'listen' of process one must be a list of [host, port from 1 to 65535]"),
        ({"listen": [["host", 65536]]}, "'listen' of process one must be a list of [host, port from 1 to 65535]"),
        ({"listen": [["host", True]]}, "'listen' of process one must be a list of [host, port from 1 to 65535]"),
        ({"ready_timeout_s": 0}, "'ready_timeout_s' of process one must be a positive number of seconds"),
        ({"stop_timeout_s": float("nan")}, "'stop_timeout_s' of process one must be a positive number of seconds"),
    ],
)
def test_a_wrong_field_is_named(change, expected):
    data = {"name": "one", "fork_server": "server", "entry": "a:b"} | change
    with pytest.raises(AtollError) as caught:
        Process.from_json(data)
    assert caught.value.message == expected
    assert caught.value.kind.code == "runtime.invalid"


@pytest.mark.parametrize("data", [None, [], "plan", {"processes": [1]}, {"fork_servers": {}}])
def test_malformed_plans_are_refused(data):
    with pytest.raises(AtollError):
        Plan.from_json(data)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan((SERVER, SERVER)), "the name 'server' is used twice, reserved or empty"),
        (Plan((ForkServer("root"),)), "the name 'root' is used twice, reserved or empty"),
        (Plan((), (OTHER,)), "paris/two names the fork server 'server', which the plan does not have"),
        (Plan((SERVER,), (PROCESS,)), "paris/one needs the process 'paris/two', which the plan does not have"),
        (Plan((ForkServer("a", None, "b"), ForkServer("b", None, "a"))), "these processes need one another in a circle: a, b"),
        (Plan((SERVER,), (Process("x", "server", "module"),)), "the entry of x is 'module': expected module:function"),
        (Plan((SERVER,), (Process("x", "server", "a:b", log="log"),)), "the log or the directory of x is not an absolute path"),
        (
            Plan((SERVER,), (Process("x", "server", "a:b", {"x": "x" * 70000}),)),
            "the arguments of x are too long: expected at most 65536 bytes of JSON",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan, expected):
    with pytest.raises(AtollError) as caught:
        plan.over({})
    assert caught.value.message == expected


def test_a_plan_may_refer_to_what_is_known():
    known = PLAN.over({})
    assert set(Plan((), (Process("paris/three", "server", "a:b", needs=("paris/one",)),)).over(known)) == {*known, "paris/three"}


def test_only_what_a_process_cannot_learn_later_is_in_its_signature():
    same = Process(**{**PROCESS.__dict__, "needs": (), "stop_timeout_s": 99.0})
    assert same.signature() == PROCESS.signature()
    assert Process(**{**PROCESS.__dict__, "arguments": {"number": 2}}).signature() != PROCESS.signature()
