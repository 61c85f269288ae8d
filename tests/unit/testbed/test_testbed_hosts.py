"""Commands on hosts: their errors are one line, secrets stay off command lines, and an unsuitable host is refused."""

import io
import subprocess
import tarfile

import pytest

from atoll.errors import AtollError
from atoll.testbed import installation
from atoll.testbed.host import RemoteHost
from atoll.testbed.installation import check_installed, inspect, install, pack
from atoll.testbed.record import Placed


def fake(bench, name: str, text: str) -> None:
    path = bench / "host" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_input_is_not_on_the_command_line(bench, host):
    assert host.run("cat", text="secret").stdout == "secret"
    assert "secret" not in (bench / "ssh.log").read_text()


def test_host_that_is_off(bench, host):
    (bench / "off").touch()
    with pytest.raises(
        AtollError, match=r"the host of paris \(192.0.2.1\) can't be reached: ssh: connect to host: Connection refused"
    ) as caught:
        host.run("true")
    assert caught.value.kind.code == "testbed.unreachable"


def test_error_of_atoll_on_the_host_is_passed_on(host):
    with pytest.raises(AtollError, match=r"paris \(192.0.2.1\): port 15001 is in use") as caught:
        host.run("echo 'paris: ready after 1 s' >&2; echo 'error: port 15001 is in use' >&2; echo 'hint: free it' >&2; exit 1")
    assert caught.value.hint == "on the host: free it"


def test_own_options_precede_those_of_enoslib():
    command = RemoteHost("a", "h", "me", 2222, "~/key", ("-o", "StrictHostKeyChecking=no"), "/known", sudo=True).command("id")
    assert command.index("StrictHostKeyChecking=accept-new") < command.index("StrictHostKeyChecking=no")
    assert command[-2:] == ["h", "sudo -n sh -c id"]
    strict = RemoteHost("a", "h", known_hosts="/known", strict=True).command("id")
    assert "StrictHostKeyChecking=yes" in strict


def test_suitable_host_of_root(bench, host):
    fake(bench, "id", "echo 0")
    found, python = inspect(host, constrained=False)
    assert not found.sudo
    assert subprocess.run([python, "-c", "import sys; assert sys.version_info >= (3, 11)"], check=False).returncode == 0


def test_user_without_sudo(bench, host):
    fake(bench, "id", "echo 1000")
    fake(bench, "sudo", "exit 1")
    with pytest.raises(AtollError, match="the user root is not root, and sudo asks for a password") as caught:
        inspect(host, constrained=False)
    assert caught.value.kind.code == "testbed.unsuitable"


def test_user_with_sudo(bench, host):
    fake(bench, "id", "echo 1000")
    fake(bench, "sudo", 'shift; exec "$@"')
    assert inspect(host, constrained=False)[0].sudo


def test_python_is_too_old(bench, host):
    fake(bench, "id", "echo 0")
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        fake(bench, name, "echo 3.9")
    with pytest.raises(AtollError, match=r"has Python 3\.9 only: expected 3\.11, 3\.12 or 3\.13"):
        inspect(host, constrained=False)


def test_atoll_of_another_version(bench, host):
    fake(bench, "other-atoll", "echo atoll 9.9")
    with pytest.raises(AtollError, match=r"other-atoll: expected Atoll \S+, got atoll 9\.9"):
        check_installed(host, "other-atoll")
    with pytest.raises(AtollError, match="got none"):
        check_installed(host, "/nowhere/atoll")


def test_archive_has_what_an_installation_needs():
    key, archive = pack()
    assert key == pack()[0], "the key names the content"
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        names = set(opened.getnames())
    assert {*installation.FILES, "src/atoll/__init__.py", "src/atoll/testbed/enoslib.lock", "src/atoll/wan/datapath.c"} <= names
    assert not [name for name in names if name.endswith((".pyc", ".so")) or ".venv" in name or ".git/" in name]


def test_installation_happens_once(bench, host):
    lines = ['cd "$(dirname "$0")/.."', "mkdir -p .venv/bin", "cp /bin/true .venv/bin/atoll", "touch .venv/installed"]
    script = "\n".join(["#!/bin/sh", *lines, 'echo "$PYTHON" >>ran', ""]).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("scripts/install")
        entry.size = len(script)
        archive.addfile(entry, io.BytesIO(script))
    placed = Placed(host, python="/usr/bin/python3.11", directory=str(bench / "atoll"))
    for _time in range(2):
        assert install(placed, ("key", packed.getvalue())) == f"{bench}/atoll/code/key/.venv/bin/atoll"
    assert (bench / "atoll" / "code" / "key" / "ran").read_text() == "/usr/bin/python3.11\n"
