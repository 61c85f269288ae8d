"""scripts/install and scripts/python-packages with fake interpreters and package managers that record their arguments."""

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INPUTS = ("pyproject.toml", "requirements.lock")

PYTHON = f"""\
#!{sys.executable}
import os, pathlib, sys
kind, *arguments = sys.argv[1:]
if kind == "-c":
    sys.version_info = tuple(map(int, os.environ["VERSION"].split(".")))
    code, sys.argv = arguments[0], ["-c", *arguments[1:]]
    exec(code)
else:
    with open(os.environ["ASKED"], "a") as log:
        print(*arguments, file=log)
    if arguments[0] == "venv":
        pathlib.Path(arguments[1], "bin").mkdir(parents=True)
        pathlib.Path(arguments[1], "bin", "python").symlink_to(__file__)
"""
"""A fake Python whose version is in the environment variable VERSION; it records the packages to install."""


@dataclass
class Checkout:
    """A checkout that root, or a user who appears as root, installs."""

    root: Path

    def __post_init__(self) -> None:
        (self.root / "scripts").mkdir()
        for name in ("scripts/install", *INPUTS):
            shutil.copy(ROOT / name, self.root / name)
        self.program("python3", PYTHON)
        self.program("id", "#!/bin/sh\necho 0\n")
        self.program("apt-get", '#!/bin/sh\necho "apt-get $*" >>"$ASKED"\n')

    def program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def install(self, version: str = "3.11.2", *before: str | Path) -> tuple[int, str]:
        environment = {"PATH": f"{self.root / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin", "VERSION": version, "ASKED": str(self.root / "asked")}
        command = [*before, self.root / "scripts" / "install", *INPUTS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    @property
    def asked(self) -> list[str]:
        log = self.root / "asked"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.mark.parametrize("version", ["2.7.18", "3.8.18", "3.10.13", "3.14.0", "4.0.0"])
def test_python_that_does_not_serve_is_told_before_anything_is_installed(checkout, version):
    checkout.program("gcc", "not executable")
    (checkout.root / "bin" / "gcc").chmod(0o644)
    expected = f"error: python3 is Python {version}: expected 3.11, 3.12 or 3.13\nhint: make install PYTHON=/path/to/python3.13\n"
    assert checkout.install(version) == (1, expected)
    assert checkout.asked == []
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("version", ["3.11.2", "3.12.1", "3.13.5"])
def test_python_that_serves(checkout, version):
    assert checkout.install(version)[0] == 0
    assert [line.split()[0] for line in checkout.asked if not line.startswith("apt-get")] == ["venv", "pip", "pip", "compileall"]
    assert "--requirement requirements.lock" in " ".join(checkout.asked)


def test_versions_are_those_of_the_project(checkout):
    project = checkout.root / "pyproject.toml"
    project.write_text(project.read_text().replace(">=3.11,<3.14", ">=3.20,<3.23"))
    assert "expected 3.20, 3.21 or 3.22\n" in checkout.install("3.13.5")[1]
    assert checkout.install("3.21.0")[0] == 0


def test_environment_that_was_made_by_another_python(checkout):
    checkout.program("old", PYTHON.replace('os.environ["VERSION"]', '"3.9.1"'))
    (checkout.root / ".venv" / "bin").mkdir(parents=True)
    (checkout.root / ".venv" / "bin" / "python").symlink_to(checkout.root / "bin" / "old")
    code, told = checkout.install()
    assert (code, told.splitlines()[0]) == (1, "error: .venv/bin/python is Python 3.9.1: expected 3.11, 3.12 or 3.13")
    assert told.splitlines()[1].startswith("hint: rm -r .venv && make install PYTHON=")
    assert checkout.asked == []


def test_nothing_is_done_twice(checkout):
    checkout.install()
    before = checkout.asked
    os.utime(checkout.root / ".venv" / "installed", (1, 1))
    assert checkout.install()[0] == 0
    assert checkout.asked == before
    assert (checkout.root / ".venv" / "installed").stat().st_mtime > 1, "the stamp must be newer, so that make does not install again"
    (checkout.root / "requirements.lock").write_text("click==8\n")
    assert checkout.install()[0] == 0
    assert len(checkout.asked) > len(before)


@pytest.fixture
def somebody_elses(checkout):
    """Yield a checkout that an ordinary user cannot write to, and the command prefix that makes root such a user."""
    checkout.install()
    if os.geteuid() != 0:
        paths = [checkout.root, checkout.root / ".venv", checkout.root / ".venv" / "installed"]
        for path in paths:
            path.chmod(0o555)
        yield checkout, ()
        for path in paths:
            path.chmod(0o755)
        return
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv, by which root would be an ordinary user")
    closed = [path for path in (checkout.root, *checkout.root.parents) if not path.stat().st_mode & 1]
    for path in closed:
        path.chmod(path.stat().st_mode | 0o011)
    yield checkout, ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for path in closed:
        path.chmod(path.stat().st_mode & ~0o011)


def test_a_user_who_can_not_write_needs_nothing_if_all_is_installed(somebody_elses):
    checkout, before = somebody_elses
    assert checkout.install("3.11.2", *before) == (0, "")


def test_a_user_who_can_not_write_is_told_who_can(somebody_elses):
    checkout, before = somebody_elses
    (checkout.root / "requirements.lock").write_text("click==8\n")
    code, told = checkout.install("3.11.2", *before)
    assert (code, told.count("\n")) == (1, 2)
    assert told.startswith(f"error: {checkout.root}/.venv is missing or not up to date, and ")
    assert f"hint: have {checkout.root.owner()} run `make install`" in told


def packages(lock, tmp_path, prelude=""):
    """Run scripts/python-packages with a lock file and a fake pip that prints its arguments."""
    (tmp_path / "lock").write_text(textwrap.dedent(lock))
    script = str(ROOT / "scripts" / "python-packages")
    code = f"""
        import runpy, subprocess, sys
        sys.argv = [{script!r}, {str(tmp_path / "lock")!r}, "things"]
        subprocess.run = lambda command, **_: print(*command[1:4]) or subprocess.CompletedProcess(command, 7)
        {prelude}
        runpy.run_path({script!r}, run_name="__main__")
    """
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)


def test_packages_that_are_there_are_not_asked_for(tmp_path):
    lock = f"""\
        # comment
        click=={version("click")} \\
            --hash=sha256:00
            # via x
        nosuch==1 ; sys_platform == 'win32' \\
            --hash=sha256:00
        """
    done = packages(lock, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("lock", ["nosuch==1 \\\n", "click==0.0.1 \\\n"])
def test_packages_that_are_missing_are_installed(tmp_path, lock):
    done = packages(lock, tmp_path, "import os; os.access = lambda *_: True")
    assert (done.returncode, done.stdout) == (7, "-m pip install\n")


def test_packages_that_somebody_else_must_install(tmp_path):
    done = packages("a1==1\na2==1\na3==1\na4==1\n", tmp_path, "import os; os.access = lambda *_: False")
    owner = Path(sys.prefix).owner()
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "warning: Python packages are missing; features and tests that need them are skipped: a1, a2, a3 and 1 more\n"
        f"hint: have {owner} run `make things`: {sys.prefix} belongs to {owner}\n"
    )


MAKE = """\
#!/bin/sh
echo "$*" >>"$ASKED"
case $2 in broken) exit 1 ;; esac
"""


@pytest.mark.parametrize(
    ("flags", "made"),
    [
        ("", ["unit", "broken"]),
        ("--jobserver-auth=3,4", ["unit", "broken"]),
        ("k", ["unit", "broken", "bus"]),
        ("ks -j2", ["unit", "broken", "bus"]),
    ],
)
def test_parts_tell_how_long_they_took_and_end_at_a_failure_unless_told_otherwise(tmp_path, flags, made):
    (tmp_path / "make").write_text(MAKE)
    (tmp_path / "make").chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "MAKE": str(tmp_path / "make"), "MAKEFLAGS": flags, "ASKED": str(tmp_path / "asked")}
    command = [ROOT / "scripts" / "parts", "unit", "broken", "bus"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line.split()[-1] for line in (tmp_path / "asked").read_text().splitlines()] == made
    lines = [line.split() for line in done.stdout.splitlines() if line]
    assert lines[0] == ["part", "seconds"]
    assert [line[0] for line in lines[1:]] == made
    assert [line[2:] for line in lines[1:]] == [["failed"] if part == "broken" else [] for part in made]


def test_parts_that_all_succeed_are_a_success(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "MAKE": "true"}
    done = subprocess.run([ROOT / "scripts" / "parts", "unit"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[2]) == (0, "unit")
