from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll.cli.main import run
from atoll.cloud import Cloud, parse_cloud
from atoll.site.composition import render_sites
from atoll.site.state import State
from atoll.site.up import write_sites


@dataclass
class Ran:
    code: int
    out: str
    err: str


Atoll = Callable[..., Ran]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def atoll(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Atoll:
    """Return a function that runs a command line with a state directory of its own."""
    monkeypatch.setenv("ATOLL_STATE", str(directory))
    monkeypatch.setattr("sys.argv", ["atoll"])
    monkeypatch.delenv("COLUMNS", raising=False)

    def atoll_(*arguments: str) -> Ran:
        code = run(arguments)
        return Ran(code, *capsys.readouterr())

    return atoll_


@pytest.fixture
def cloud(directory: Path) -> Cloud:
    """Write the files of a cloud of two sites that does not run."""
    state = State(directory)
    made = parse_cloud("sites:\n- name: paris\n- {name: lyon, services: {nova: false}}\n", "c.yaml")
    sites = render_sites(state, made, directory / "templates")
    write_sites(state, made, sites, "key")
    return made
