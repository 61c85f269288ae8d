"""The check of a host, and the installation of Atoll on it: a copy of the checkout, and its `scripts/install`, as in a manual setup."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import atoll
from atoll.errors import AtollError
from atoll.testbed.host import RemoteHost
from atoll.testbed.record import Placed

FILES = ("LICENSE", "README.md", "pyproject.toml", "requirements.lock", "scripts/install", "setup.py")

_PROBE = """
echo "uid=$(id -u)"
sudo -n true 2>/dev/null && echo sudo=yes
for each in python3.13 python3.12 python3.11 python3; do
    found=$(command -v "$each") && echo "python=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) $found"
done
command -v apt-get >/dev/null && echo apt=yes
command -v tc >/dev/null && echo tc=yes
exit 0
"""
_GET_PYTHON = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3 python3-venv"
_VERSION = re.compile(r"python=3\.(\d+) (/\S+)")
_MINORS = range(11, 14)


def inspect(host: RemoteHost, *, constrained: bool) -> tuple[RemoteHost, str]:
    """Check a host, and install Debian's Python if it has none.

    Args:
        host: the host; whether it needs sudo is not known yet.
        constrained: whether its links will be constrained, which needs `tc`.

    Returns:
        The host, with `sudo` set to whether it needs sudo, and the path of a suitable Python.

    Raises:
        AtollError: `testbed.unreachable`; `testbed.unsuitable`: the user can't become root, Python is too old, or `tc` is missing;
            `testbed.failed`: Python can't be installed.
    """
    lines = replace(host, sudo=False).run(_PROBE).stdout.splitlines()
    root = "uid=0" in lines
    if not root and "sudo=yes" not in lines:
        text = f"{host.label}: the user {host.user or 'of the connection'} is not root, and sudo asks for a password"
        raise AtollError("testbed.unsuitable", text, "sign in as root, or allow sudo without a password (NOPASSWD)")
    host = replace(host, sudo=not root)
    if constrained and "tc=yes" not in lines:
        raise AtollError("testbed.unsuitable", f"{host.label} has no program `tc` to constrain links", "install iproute2 there")
    if "apt=yes" in lines and not any(line.startswith("python=") for line in lines):
        host.run(_GET_PYTHON)
        lines = host.run(_PROBE).stdout.splitlines()
    return host, _python(host, lines)


def _python(host: RemoteHost, lines: list[str]) -> str:
    found = [(int(match[1]), match[2]) for line in lines if (match := _VERSION.fullmatch(line))]
    suitable = [path for minor, path in found if minor in _MINORS]
    if not suitable:
        what = f"Python 3.{found[0][0]} only" if found else "no Python"
        text = f"{host.label} has {what}: expected 3.11, 3.12 or 3.13"
        raise AtollError("testbed.unsuitable", text, "choose an image with a newer system, such as Debian 12 or 13")
    return suitable[0]


def check_installed(host: RemoteHost, program: str) -> None:
    """Check that a host has an Atoll of this version at a path.

    Raises:
        AtollError: `testbed.unsuitable`: the path has no Atoll, or one of another version.
    """
    done = host.run(f"{program} --version", check=False)
    expected = version("atoll")
    if done.returncode != 0 or expected not in done.stdout.split():
        found = " ".join(done.stdout.split())[:60] if done.returncode == 0 else "none"
        raise AtollError("testbed.unsuitable", f"{host.label}: {program}: expected Atoll {expected}, got {found}", "install it there")


def pack() -> tuple[str, bytes]:
    """Return the key of the code of this Atoll, and an archive of the files that an installation needs.

    Raises:
        AtollError: `testbed.requirement`: this Atoll does not run from a checkout.
    """
    root = Path(atoll.__file__).parents[2]
    if not all((root / name).is_file() for name in FILES):
        hint = "install Atoll on the hosts yourself, and give its path as `atoll` in the provider's file"
        raise AtollError("testbed.requirement", "this atoll does not run from a checkout, so it has no copy to install on the hosts", hint)
    digest = hashlib.sha256()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
        for path in _files(root):
            content = path.read_bytes()
            name = str(path.relative_to(root))
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return digest.hexdigest()[:12], packed.getvalue()


def _files(root: Path) -> Iterator[Path]:
    yield from (root / name for name in FILES)
    for path in sorted((root / "src").rglob("*")):
        hidden = any(part.startswith((".", "__pycache__")) or part.endswith(".egg-info") for part in path.parts)
        if path.is_file() and path.suffix not in {".pyc", ".so"} and not hidden:
            yield path


def install(placed: Placed, packed: tuple[str, bytes]) -> str:
    """Install this Atoll on the host of a site, unless the same code is installed there already, and return the path of the program.

    Args:
        placed: the site on its host.
        packed: the archive, as `pack` returns it.

    Raises:
        AtollError: `testbed.unreachable`; `testbed.failed`: the installation failed.
    """
    key, archive = packed
    code = f"{placed.directory}/code/{key}"
    program = f"{code}/.venv/bin/atoll"
    if placed.host.run(f"test -e {code}/.venv/installed && test -x {program}", check=False).returncode == 0:
        return program
    script = f"mkdir -p {code} && tar -xzf - -C {code} && PYTHON={placed.python} sh {code}/scripts/install"
    placed.host.run(script, data=archive)
    return program
