import pytest

from atoll.bench import own_cloud as module
from atoll.bench.own_cloud import own_cloud
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
