import pytest

from atoll.bench import own_cloud as module
from atoll.bench.own_cloud import Companion, own_cloud
from atoll.errors import AtollError

DOCUMENT = {"name": "small", "sites": [{"name": "paris", "compute": "fake"}]}


@pytest.fixture
def verbs(monkeypatch) -> list[str]:
    """The verbs of `atoll` that were run; `up` fails while `fails` is among them."""
    run: list[str] = []

    def atoll(_state, _log, _environment, verb, *_arguments):
        run.append(verb)
        if verb == "up" and "fails" in run:
            raise AtollError("bench.failed", "no site came up")

    monkeypatch.setattr(module, "atoll", atoll)
    return run


def test_cloud_is_started_from_its_document_and_destroyed(verbs, tmp_path):
    with own_cloud(tmp_path, DOCUMENT, {}) as own:
        assert verbs == ["up"]
        assert "name: paris" in (tmp_path / "cloud.yaml").read_text()
        assert (own.state.root, own.log, own.up_s >= 0) == (tmp_path / "s", tmp_path / "commands.log", True)
    assert verbs == ["up", "destroy"]


def test_cloud_is_destroyed_after_an_error_of_the_experiment(verbs, tmp_path):
    with pytest.raises(KeyboardInterrupt), own_cloud(tmp_path, DOCUMENT, {}):
        raise KeyboardInterrupt
    assert verbs == ["up", "destroy"]


def test_cloud_that_does_not_start_is_destroyed(verbs, tmp_path):
    verbs.append("fails")
    with pytest.raises(AtollError, match="no site came up"), own_cloud(tmp_path, DOCUMENT, {}):
        pytest.fail("the cloud is not up")
    assert verbs == ["fails", "up", "destroy"]


class Disk(Companion):
    """Tells what it was asked for, and stops the cloud before it leaves."""

    def __init__(self, told, *, broken=False) -> None:
        self.told, self.broken = told, broken

    def before_start(self, _state):
        self.told.append("mounted")

    def during_start(self, _state, command):
        self.told.append(("beside", command.poll() is None))
        if self.broken:
            raise AtollError("bench.failed", "no network")

    def before_destroy(self, stop):
        stop()
        self.told.append("unmounted")

    def after_destroy(self):
        self.told.append("gone")


class Command:
    """A command that runs until it is awaited or terminated."""

    def __init__(self, told) -> None:
        self.told, self.code = told, None

    def poll(self):
        return self.code

    def terminate(self):
        self.told.append("terminated")
        self.code = -15

    def wait(self):
        return self.code


@pytest.fixture
def begun(verbs, monkeypatch):
    """The verbs, of which `up` runs beside companions."""

    def begin(_state, _log, _environment, verb, *_arguments):
        verbs.append(verb)
        return Command(verbs)

    def await_end(command, _log):
        verbs.append("awaited")
        command.code = 0

    monkeypatch.setattr(module, "begin", begin)
    monkeypatch.setattr(module, "await_end", await_end)
    return verbs


def test_companions_come_before_the_cloud_and_leave_before_it_is_destroyed(begun, tmp_path):
    with own_cloud(tmp_path, DOCUMENT, {}, [Disk(begun)]):
        assert begun == ["mounted", "up", ("beside", True), "awaited"]
    assert begun[4:] == ["down", "unmounted", "destroy", "gone"]


def test_a_companion_that_fails_ends_the_start(begun, tmp_path):
    with pytest.raises(AtollError, match="no network"), own_cloud(tmp_path, DOCUMENT, {}, [Disk(begun, broken=True)]):
        pytest.fail("the cloud is not up")
    assert begun == ["mounted", "up", ("beside", True), "terminated", "down", "unmounted", "destroy", "gone"]
