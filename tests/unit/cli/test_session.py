from pathlib import Path

from atoll.cli.session import Session


def test_program_is_spelled_so_that_it_can_be_run(monkeypatch, tmp_path):
    own = tmp_path / "bin/atoll"
    own.parent.mkdir()
    own.touch(mode=0o700)
    session = Session()
    monkeypatch.setattr("sys.argv", [str(own)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert session.program == str(own)
    monkeypatch.setenv("PATH", str(own.parent))
    assert session.program == "atoll"
    session.directory = Path("/a b")
    assert session.program == "atoll --state '/a b'"
    assert session.spell("see `atoll status`, or `make`") == "see `atoll --state '/a b' status`, or `make`"


def test_python_m_atoll_is_called_atoll(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/atoll/__main__.py"])
    assert Session().program == "atoll"
