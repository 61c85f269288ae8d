"""A site that joins by a token, whose command dies at any step; the same command then finishes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from inviting import Paris

from atoll.errors import AtollError
from atoll.mesh import admission
from atoll.site import joining, preflight
from atoll.site.destroy import destroy
from atoll.site.sites import applied_cloud
from atoll.site.up import up

HOUR_S = 3600.0
PORT = 21000


@pytest.fixture
def paris(tmp_path, monkeypatch):
    made = Paris(tmp_path / "paris")
    monkeypatch.setattr(admission, "_post", lambda _host, _port, body: made.post(body))
    yield made
    made.invitations.close()


@pytest.fixture
def token(paris) -> str:
    return paris.service.invite("nice", HOUR_S)


@pytest.fixture
def join(state, cache, runtime, token) -> Callable:
    def join_(text=token, port=PORT):
        return joining.join(state, cache, text, "127.0.0.2", port, "secret", lambda _event: None)

    return join_


def refused(code: str, call, *arguments) -> str:
    with pytest.raises(AtollError) as caught:
        call(*arguments)
    assert caught.value.kind.code == code
    return caught.value.message


class DeathError(BaseException):
    """Ends the command at once, as SIGKILL would."""


class Reaper:
    """Counts the steps of a command, and ends it at one of them."""

    def __init__(self, monkeypatch) -> None:
        self._patch = monkeypatch
        self.steps: list[str] = []
        self.die_at = 0

    def reach(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) == self.die_at:
            raise DeathError(step)

    def watch(self, owner: object, name: str, what: Callable[..., str], *, before: bool = True) -> None:
        original = getattr(owner, name)

        def watched(*arguments, **keywords):
            if any("etc" in getattr(each, "parts", ()) for each in arguments):
                return original(*arguments, **keywords)  # each `up` writes missing configuration files
            if before:
                self.reach(f"before {what(*arguments)}")
            result = original(*arguments, **keywords)
            self.reach(f"after {what(*arguments)}")
            return result

        self._patch.setattr(owner, name, watched)


@pytest.fixture
def reaper(monkeypatch, paris, runtime) -> Reaper:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # no power is cut here
    made = Reaper(monkeypatch)
    made.watch(os, "mkdir", lambda path, *_: f"mkdir {Path(path).name}", before=False)
    made.watch(Path, "replace", lambda _path, target: f"write {target.name}")
    made.watch(admission, "_post", lambda *_: "request")
    made.watch(runtime, "ensure", lambda *_: "start of the supervisor")
    made.watch(runtime, "start", lambda *_: "start of the processes")
    return made


def test_site_that_has_joined_has_no_note(join, state, paris):
    outcome = join()
    assert outcome.cloud.name == "unit"
    assert applied_cloud(state).site_names == ("nice",)
    assert not state.joining_file.exists()
    assert set(paris.cards) == {"paris", "nice"}


def test_command_that_dies_at_any_step_is_finished_by_the_same_command(join, state, paris, reaper, runtime):
    join()  # makes the templates
    _begin_anew(paris, state, runtime)
    reaper.steps.clear()
    join(paris.service.invite("nice", HOUR_S))
    steps = list(reaper.steps)
    assert {"before request", "after request", "after start of the processes"} <= set(steps)
    for number in range(1, len(steps) + 1):
        at = f"after a death {steps[number - 1]}, step {number}"
        _begin_anew(paris, state, runtime)
        text = paris.service.invite("nice", HOUR_S)
        _die_at_step(reaper, number, lambda text=text: join(text))
        assert join(text).cloud.site_names == ("nice",), at
        assert set(paris.cards) == {"paris", "nice"}, at
        directory = state.site("nice")
        assert (directory / "tls" / "cert.pem").read_text() == paris.cards["nice"].certificate, at
        assert {card["name"] for card in json.loads((directory / "members.json").read_text())} == {"paris", "nice"}, at
        assert json.loads((directory / "settings.json").read_text())["secrets"]["admin"] == "secret", at
        assert not state.joining_file.exists(), at
        assert runtime.plans, at


@pytest.mark.parametrize("step", ["after write version", "after write joining.json", "after request", "after write cert.pem"])
def test_command_that_died_can_be_abandoned(join, state, reaper, step):
    _die_at(reaper, step, join)
    destroy(state)
    assert not state.root.exists()


def _begin_anew(paris: Paris, state, runtime) -> None:
    """Let the site be unknown to its member, and the directory not exist."""
    destroy(state)
    assert not state.root.exists()
    paris.cards.pop("nice", None)
    runtime.plans.clear()


def _die_at_step(reaper: Reaper, number: int, run: Callable) -> None:
    reaper.steps.clear()
    reaper.die_at = number
    with pytest.raises(DeathError):
        run()
    reaper.die_at = 0


def test_begun_join_is_not_overwritten_by_another_cloud(join, state, cache, reaper):
    _die_at(reaper, "after request", join)
    assert "has begun to join" in refused("state.unusable", up, state, cache)
    assert join().cloud.site_names == ("nice",)


def _die_at(reaper: Reaper, step: str, run: Callable) -> None:
    reach = reaper.reach

    def dying(now: str) -> None:
        reach(now)
        if now == step:
            raise DeathError

    reaper.reach = dying
    with pytest.raises(DeathError):
        run()
    reaper.reach = reach


def test_begun_join_is_finished_with_the_same_token_and_address_only(join, state, paris, reaper):
    _die_at(reaper, "after request", join)
    assert "with another token" in refused("cloud.invalid", join, paris.service.invite("rome", HOUR_S))
    assert "expected the same" in refused("cloud.invalid", lambda: join(port=PORT + 100))
    assert join().cloud.site_names == ("nice",)


def test_refusal_leaves_nothing(join, state, paris, token):
    paris.now_ms += 2 * 3600 * 1000
    assert "expired" in refused("join.refused", join)
    assert not state.root.exists()


def test_site_that_does_not_answer_leaves_nothing(join, state, monkeypatch):
    def post(*_arguments):
        raise AtollError("join.unreachable", "nobody is there")

    monkeypatch.setattr(admission, "_post", post)
    refused("join.unreachable", join)
    assert not state.root.exists()


def test_lost_answer_leaves_the_request_which_is_made_again(join, state, paris, monkeypatch):
    def post(_host, _port, body):
        paris.post(body)
        raise AtollError("join.unanswered", "the line is dead")

    with monkeypatch.context() as patch:
        patch.setattr(admission, "_post", post)
        refused("join.unanswered", join)
    assert set(paris.cards) == {"paris", "nice"}
    with monkeypatch.context() as patch:
        patch.setattr(admission, "_post", lambda *_: (_ for _ in ()).throw(AtollError("join.unreachable", "nobody is there")))
        refused("join.unreachable", join)
    assert join().cloud.site_names == ("nice",)


def test_refused_repetition_keeps_the_key(join, state, paris, monkeypatch, reaper):
    """The site may be a member, and anybody at the member's address may refuse."""
    _die_at(reaper, "after request", join)
    with monkeypatch.context() as patch:
        patch.setattr(admission, "_post", lambda *_: (_ for _ in ()).throw(AtollError("join.refused", "go away")))
        with pytest.raises(AtollError, match="go away") as caught:
            join()
    assert caught.value.kind.code == "join.refused"
    assert "`atoll destroy`" in caught.value.hint
    assert join().cloud.site_names == ("nice",)


def test_repeated_join_is_planned_with_the_hypervisor_of_the_first(join, state, paris, monkeypatch, reaper):
    fake = []

    def planned(cloud, **more):
        fake.append(more["fake"])
        return original(cloud, **more)

    original = preflight.with_default_hypervisors
    monkeypatch.setattr(preflight, "with_default_hypervisors", planned)
    _die_at(reaper, "after write settings.json", join)
    assert state.existing_sites() == ["nice"]
    fake.clear()
    join()
    assert len(fake) > 0
    assert not any(fake), "no site has the fake hypervisor because its first start was cut short"


def test_port_in_use_is_found_before_the_token_is_used(join, state, paris, monkeypatch):
    def bind(*_arguments):
        raise AtollError("port.in_use", "port 21001 is in use")

    with monkeypatch.context() as patch:
        patch.setattr(preflight.Listeners, "bind", bind)
        refused("port.in_use", join)
    assert set(paris.cards) == {"paris"}
    assert not state.root.exists()
    assert join(port=PORT + 100).cloud.site_names == ("nice",)


def test_directory_with_a_cloud_is_refused(join, state, cache):
    up(state, cache)
    assert "there is a cloud" in refused("cloud.invalid", join)
