"""The soak of `atoll bench cloudlet`: its steps, its rule, and its course with doubles."""

import json
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from atoll.bench.api import Answer
from atoll.bench.cell_faults.kinds import KINDS
from atoll.bench.cloudlet import soak
from atoll.bench.cloudlet.parts import EDGE, HOME
from atoll.bench.cloudlet.running import RunningGuest, TwinWatch, guests
from atoll.bench.cloudlet.soak import Soak
from atoll.bench.cloudlet.soak_checks import ListedServer, violations
from atoll.bench.cloudlet.soak_outcome import SoakOutcome
from atoll.bench.cloudlet.soak_plan import KILLED, MOST_SERVERS, SoakStep, plan
from atoll.bench.failure import failed
from atoll.bench.faults.violation import Violation
from atoll.cli.main import run as atoll
from atoll.services import LIBVIRT, SERVICES

KINDS_HERE = ("cut", "kill", "full-disk")


def test_seed_makes_the_same_steps():
    assert plan(50, 7, KINDS_HERE) == plan(50, 7, KINDS_HERE)
    assert plan(50, 7, KINDS_HERE) != plan(50, 8, KINDS_HERE)
    assert plan(20, 7, KINDS_HERE) == plan(50, 7, KINDS_HERE)[:20]


def test_steps_start_and_move_with_all_faults():
    steps = plan(500, 1, KINDS_HERE)
    starts = [step for step in steps if step.operation == "synthesis"]
    assert steps[0].operation == "synthesis"
    assert len(starts) == MOST_SERVERS
    assert {step.fault for step in steps} == {"", *KINDS_HERE}
    assert set(KINDS_HERE) <= KINDS.keys()
    killed = {step.target for step in steps if step.fault == "kill"}
    assert killed == {f"{site}/{name}" for site in (HOME, EDGE) for name in KILLED}
    assert {step.target for step in steps if step.fault == "full-disk"} == {HOME, EDGE}
    assert {step.fault for step in plan(100, 1, ("cut",))} == {"", "cut"}


def test_killed_processes_exist():
    assert set(KILLED) == {"gateway", LIBVIRT.name, *(service.name for service in SERVICES)}


def listed(server: str, site: str = HOME, status: str = "ACTIVE") -> ListedServer:
    return ListedServer(site, server, f"soak-{server}", status)


def kinds(found: list[Violation]) -> Counter[str]:
    return Counter(each.kind for each in found)


def test_every_server_once():
    assert violations(["a", "b"], [], [listed("a"), listed("b", EDGE)], [RunningGuest(HOME, "a"), RunningGuest(EDGE, "b")]) == []


@pytest.mark.parametrize(
    ("seen", "running", "wanted"),
    [
        ([], [], {"lost": 2}),
        ([listed("a")], [], {"lost": 1}),
        ([], [HOME], {"lost": 1}),
        ([listed("a"), listed("a", EDGE)], [HOME], {"duplicated": 1}),
        ([listed("a")], [HOME, EDGE], {"duplicated": 1}),
        ([listed("a", status="SHUTOFF")], [HOME], {"unhealthy": 1}),
    ],
)
def test_expected_server_that_is_not_there_once(seen, running, wanted):
    assert kinds(violations(["a"], [], seen, [RunningGuest(site, "a") for site in running])) == wanted


def test_unexpected_servers():
    stray = [RunningGuest(HOME, "x")]
    assert kinds(violations([], [], [listed("x")], stray)) == {"orphan": 1}
    assert violations([], ["soak-x"], [listed("x")], stray) == [], "its creation was not acknowledged"
    assert kinds(violations([], ["soak-x"], [listed("x"), listed("x", EDGE)], stray)) == {"duplicated": 1}
    assert kinds(violations([], [], [], stray)) == {"orphan": 1}, "no site lists the server of a guest"


def test_guests_are_found_by_their_processes(tmp_path):
    def process(pid: int, *words: str) -> None:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))

    root = Path("/state/sites")
    process(1, "/usr/bin/qemu-system-x86_64", "-uuid", "a", "-drive", f"file={root}/home/data/instances/a/disk")
    process(2, "/usr/bin/qemu-system-x86_64", "-uuid", "b", "-drive", "file=/other/sites/home/data/instances/b/disk")
    process(3, "/usr/bin/qemu-img", "-uuid", "c", f"{root}/home/data")
    process(4, "/usr/bin/qemu-system-x86_64", f"{root}/home/data", "-uuid")
    (tmp_path / "5").mkdir()
    assert guests(root, (HOME, EDGE), tmp_path) == [RunningGuest(HOME, "a")]


def test_twins_are_recorded_once():
    twins = TwinWatch(lambda: [RunningGuest(HOME, "a"), RunningGuest(EDGE, "a"), RunningGuest(EDGE, "b")])
    for _ in range(3):
        twins.look_once()
    assert twins.looks == 3
    assert [(each.kind, each.about) for each in twins.violations.values()] == [("duplicated", "a")]


class DoubleInside:
    """A gateway that answers the requests about hand-offs one after the other; an exception is raised."""

    def __init__(self, *answers: object) -> None:
        self.answers, self.asked = list(answers), []

    def call(self, _service, method, path, body=None):
        self.asked.append((method, path.partition("?")[2], body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return Answer(status, body, {})


@pytest.fixture
def course(monkeypatch, tmp_path):
    """Return a function that makes a soak whose server is at home, and whose gateway gives the answers."""
    monkeypatch.setattr(soak, "_LOOK_S", 0.0)
    held = SimpleNamespace(digest=lambda: "content", release=lambda: None)
    monkeypatch.setattr(soak.disks, "hold", lambda *_arguments: held)
    monkeypatch.setattr(soak.disks, "received", lambda _instances, _server: tmp_path)
    monkeypatch.setattr(soak.disks, "digest", lambda _path: "content")

    def make(*answers: object) -> tuple[Soak, DoubleInside]:
        inside = DoubleInside(*answers)
        made = Soak.__new__(Soak)
        made._sites = SimpleNamespace(inside=lambda _site: inside, instances=lambda _site: tmp_path / "instances", sign_in=lambda: None)
        made._outcome, made._say = SoakOutcome(1), lambda _text: None
        made._servers = {"server-1": HOME}
        return made, inside

    return make


STEP = SoakStep(1, "handoff", HOME, 0.5, "", "", 0.0, 0.0)


def state(name: str, *, running: bool = True) -> tuple[int, dict[str, object]]:
    return 202, {"id": "h", "state": name, "running": running, "reason": "the link"}


def test_handoff_that_succeeds(course):
    made, inside = course(state("copying"), OSError("the gateway was killed"), state("fenced"), state("done"))
    made.carry_out(STEP)
    assert made._servers == {"server-1": EDGE}
    assert made._outcome.counts == {"steps": 1, "hand-offs": 1, "exact disks": 1}
    assert [method for method, _query, _body in inside.asked] == ["POST", "GET", "GET", "GET"]
    assert inside.asked[0][2] == {"site": EDGE}
    assert inside.asked[1][1] == "id=h"
    assert made._outcome.ok


def test_interrupted_handoff_is_continued(course):
    made, inside = course(state("copying", running=False), (503, {}), state("copying"), state("done"))
    made.carry_out(STEP)
    assert [method for method, _query, _body in inside.asked] == ["POST", "POST", "POST", "GET"]
    assert made._servers == {"server-1": EDGE}


@pytest.mark.parametrize("answers", [[state("copying"), state("failed")], [(409, {"message": "the server is locked"})]])
def test_failed_handoff_leaves_the_server(course, answers):
    made, _inside = course(*answers)
    made.carry_out(STEP)
    assert made._servers == {"server-1": HOME}
    assert made._outcome.counts["failed hand-offs"] == 1
    assert made._outcome.ok


def test_disk_that_differs_is_a_violation(course, monkeypatch):
    made, _inside = course(state("done"))
    monkeypatch.setattr(soak.disks, "digest", lambda _path: "other")
    made.carry_out(STEP)
    assert [(each.kind, each.about) for each in made._outcome.violations] == [("different", "server-1")]


def test_handoff_that_never_ends_is_a_violation(course, monkeypatch):
    monkeypatch.setattr(soak, "SETTLED_S", -1.0)
    made, _inside = course()
    made.carry_out(STEP)
    assert kinds(made._outcome.violations) == {"unhealthy": 1}


def test_fault_is_undone_before_the_step_ends(course, monkeypatch):
    made, _inside = course(state("done"))
    did: list[str] = []
    injection = SimpleNamespace(inject=lambda _stage, step: did.append(f"inject {step}"), undo=lambda _stage, _step: did.append("undo"))
    monkeypatch.setattr(soak, "KINDS", {"kill": injection})
    made._stage = None
    made.carry_out(SoakStep(3, "handoff", HOME, 0.0, "kill", "home/nova", 0.0, 0.0))
    assert did == ["inject kill home/nova (step 3)", "undo"]
    assert made._outcome.counts["kill"] == 1


def test_fault_that_can_not_be_injected_is_noted(course, monkeypatch):
    made, _inside = course(state("done"))

    def refuse(*_arguments):
        raise OSError("no such process")

    monkeypatch.setattr(soak, "KINDS", {"kill": SimpleNamespace(inject=refuse, undo=refuse)})
    made._stage = None
    made.carry_out(SoakStep(3, "handoff", HOME, 0.0, "kill", "home/nova", 0.0, 0.0))
    assert made._outcome.notes == ["step 3: kill home/nova (step 3): no such process"]
    assert made._outcome.counts["kill"] == 0


class DoubleClient:
    """A client whose server gets a status, and whose deletions may fail."""

    def __init__(self, status: str, *, deletes: bool = True) -> None:
        self.status, self.deletes, self.attempts, self.asked = status, deletes, [], []

    def make(self, _type: str, name: str, zone: str) -> str:
        self.asked.append(("make", zone))
        return f"{name}-0"

    def id(self, _name: str) -> str:
        return "server-2"

    def await_server(self, _name, _good, _patience_s):
        return {"status": self.status, "fault": {"message": "no space left"}}

    def retry(self, kind: str, name: str) -> None:
        self.asked.append((kind, name))
        if not self.deletes:
            raise failed("not acknowledged")

    def await_gone(self, _name, _patience_s) -> None:
        """Return at once, because the server is gone."""


START = SoakStep(2, "synthesis", EDGE, 0.5, "", "", 0.0, 0.0)


@pytest.mark.parametrize(("content", "found"), [("content", {}), ("other", {"different": 1})])
def test_start_is_compared(course, content, found):
    made, _inside = course()
    made._client, made._content = DoubleClient("ACTIVE"), content
    made.carry_out(START)
    assert made._servers == {"server-1": HOME, "server-2": EDGE}
    assert made._client.asked == [("make", EDGE)]
    assert kinds(made._outcome.violations) == found


@pytest.mark.parametrize("deletes", [True, False])
def test_server_that_did_not_start_is_deleted(course, deletes):
    made, _inside = course()
    made._client, made._left = DoubleClient("ERROR", deletes=deletes), set()
    made.carry_out(START)
    assert made._servers == {"server-1": HOME}
    assert made._client.asked[-1] == ("server.delete", "soak-2-0")
    assert made._outcome.counts["refused starts"] == 1
    assert made._left == (set() if deletes else {"soak-2-0"}), "it may exist if its deletion was not acknowledged"
    assert made._outcome.ok


def test_check_waits_until_all_is_well(course, monkeypatch):
    made, _inside = course()
    answers = iter([[Violation("lost", "no site lists server a", "a")], []])
    monkeypatch.setattr(Soak, "_violations", lambda _self: next(answers))
    did: list[object] = []
    made._faulty = SimpleNamespace(wan=SimpleNamespace(heal=lambda: did.append("heal")), atoll=lambda *words: did.append(words))
    made.check()
    assert did == ["heal", ("site", "start", HOME, EDGE)]
    assert made._outcome.ok
    monkeypatch.setattr(soak, "SETTLED_S", -1.0)
    monkeypatch.setattr(Soak, "_violations", lambda _self: [Violation("lost", "no site lists server a", "a")])
    made.check()
    assert kinds(made._outcome.violations) == {"lost": 1}


@pytest.mark.parametrize("bad", [False, True])
def test_command(bad, monkeypatch, capsys):
    @contextmanager
    def workspace(_environment, _say):
        yield None

    def run(steps, seed, _work, _cache):
        outcome = SoakOutcome(seed, Counter(steps=steps))
        outcome.violations += [Violation("duplicated", "2 guests of server a ran at the same time", "a")] if bad else []
        return outcome

    monkeypatch.setattr("atoll.bench.workspace.workspace", workspace)
    monkeypatch.setattr(soak, "obstacle", lambda: None)
    monkeypatch.setattr(soak, "run", run)
    assert atoll(["bench", "cloudlet", "--soak", "5", "--seed", "9", "--json"]) == (1 if bad else 0)
    told = capsys.readouterr()
    report = json.loads(told.out.splitlines()[-1])
    assert (report["seed"], report["steps"]) == (9, 5)
    assert report["violations"] == (["duplicated: 2 guests of server a ran at the same time"] if bad else [])
    assert ("--soak 5 --seed 9" in told.err) is bad
