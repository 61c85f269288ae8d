"""The boundary between a use case and a cloud: everything that is asked of Atoll is asked here, by its commands and the openstack client.

A use case names two places. In an Atoll cloud, each is a site, and programs run in the site's network. Without a cloud, both are this
machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
ATOLL = ROOT / ".venv" / "bin" / "atoll"

NETWORK = "use-cases"
_MIB = 2**20


class CloudError(RuntimeError):
    """A command of the cloud failed; the text is its error."""


@dataclass(frozen=True)
class Step:
    """One thing that the cloud did.

    Attributes:
        what: the step in a few words.
        outcome: what came of it.
        seconds: how long it took; `None` if nothing was done.
    """

    what: str
    outcome: str
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.outcome}" + ("" if self.seconds is None else f" ({self.seconds:.1f} s)")


class Cloud(Protocol):
    """A cloud, or none, with a server that is started near its users and follows them."""

    title: str
    """Where the use case runs, in one sentence."""
    computing: str
    """Where the heavy program runs, in one sentence."""

    def inside(self, place: str) -> list[str]:
        """Return the words to put before a command that runs at a place."""

    def prepare(self) -> list[Step]:
        """Bring the overlay and the network into the cloud, unless they are there."""

    def start(self, place: str) -> list[Step]:
        """Find the nearest site for a user at a place, and start the server there from the overlay."""

    def move(self, place: str) -> list[Step]:
        """Find the nearest site for a user who has moved to a place, and take the server there."""

    def cut(self, place: str) -> list[Step]:
        """Cut the place off from all other sites."""

    def finish(self) -> list[Step]:
        """Heal what was cut, and delete the server and all else that was made."""


class NoCloud:
    """This machine alone: no server is started, and programs run here."""

    title = "Without a cloud: all processes run on this machine, and no virtual machine is started."
    computing = "The heavy program is a process on this machine."

    def __init__(self) -> None:
        self._alone = _alone()

    def inside(self, place: str) -> list[str]:
        """See `Cloud`; the network of the programs has no way out, if this user may make such a network."""
        del place
        return self._alone

    def prepare(self) -> list[Step]:
        """See `Cloud`."""
        return []

    def start(self, place: str) -> list[Step]:
        """See `Cloud`."""
        return [Step("start the analysis", f"at {place}: skipped, because there is no cloud")]

    def move(self, place: str) -> list[Step]:
        """See `Cloud`."""
        return [Step("move the analysis", f"to {place}: skipped, because there is no cloud")]

    def cut(self, place: str) -> list[Step]:
        """See `Cloud`."""
        del place
        told = (
            "the programs' network has no interface but its loopback"
            if self._alone
            else "not done: this user may make no network of its own"
        )
        return [Step("cut the WAN", told)]

    def finish(self) -> list[Step]:
        """See `Cloud`."""
        return []


def _alone() -> list[str]:
    """Return the words before a command that has a network without a way out; none if that is not possible."""
    for words in (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"]):
        found = [*words, "sh", "-c", 'ip link set lo up && exec "$@"', "alone"]
        if shutil.which("unshare") and subprocess.run([*found, "true"], capture_output=True, check=False).returncode == 0:
            return found
    return []


class AtollCloud:
    """A running Atoll cloud on this machine."""

    def __init__(self, places: dict[str, str], name: str, memory_mib: int = 512) -> None:
        """Ask the cloud what its servers are.

        Args:
            places: the site of each place.
            name: the name of the server and of the overlay's image.
            memory_mib: the memory of the server, in MiB.

        Raises:
            CloudError: no such cloud runs.
        """
        self._places, self._name, self._memory_mib = places, name, memory_mib
        self._first = next(iter(places.values()))
        self._at = ""
        self._cut = ""
        self._image = ""
        self._made: list[tuple[str, ...]] = []  # commands of the openstack client that delete what was made
        kinds = {each.get("Hypervisor Type", "?").lower() for each in self._openstack(self._first, "hypervisor", "list")}
        self.real = not any("fake" in kind for kind in kinds)
        guests = "real guests" if self.real else "records of Nova's fake driver, which compute nothing"
        sites = " and ".join(f"{site} ({place})" for place, site in places.items())
        self.title = f"In an Atoll cloud: the sites {sites}. Servers are {guests}."
        self.computing = (
            "The heavy program is a process in the network of the server's site, beside the server: the example's image has no Python."
        )

    def inside(self, place: str) -> list[str]:
        """See `Cloud`."""
        return [str(ATOLL), "exec", self._places[place], "--"]

    def prepare(self) -> list[Step]:
        """See `Cloud`."""
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            self._image, told = self._overlay(Path(directory))
        if not any(each["Name"] == NETWORK for each in self._openstack(self._first, "network", "list")):
            self._openstack(self._first, "network", "create", NETWORK)
            self._made.append(("network", "delete", NETWORK))
            self._openstack(self._first, "subnet", "create", NETWORK, "--network", NETWORK, "--subnet-range", "10.20.0.0/24")
        return [Step("bring the overlay into the cloud", told, _since(begun))]

    def start(self, place: str) -> list[Step]:
        """See `Cloud`."""
        found, site = self._find(place)
        begun = time.monotonic()
        told = self._boot(site)
        return [found, Step("start the server from the overlay", told, _since(begun))]

    def move(self, place: str) -> list[Step]:
        """See `Cloud`; a hand-off that the cloud refuses is told, and a new server takes the place of the old one."""
        found, site = self._find(place)
        if site == self._at:
            return [found, Step("move the server", f"it is at {site} already")]
        begun, before = time.monotonic(), self._at
        try:
            done = json.loads(self._at_site(before, str(ATOLL), "cloudlet", "handoff", "--json", self._name, site))
        except CloudError as refused:
            return [found, Step("hand the server off", f"refused: {refused}", _since(begun)), self._replace(before, site)]
        self._at = site
        return [found, Step("hand the server off", f"from {before} to {site}, with its id {done['server']}", _since(begun))]

    def cut(self, place: str) -> list[Step]:
        """See `Cloud`."""
        self._cut = self._places[place]
        _run([str(ATOLL), "wan", "cut", self._cut])
        shown = self._openstack(self._cut, "server", "list", "--name", self._name)
        told = ", ".join(f"{each['Name']} is {each['Status']}" for each in shown) or "the site lists no server"
        return [Step("cut the WAN", f"{self._cut} is cut off from all other sites. Its own API answers: {told}")]

    def finish(self) -> list[Step]:
        """See `Cloud`."""
        steps = []
        if self._cut:
            _run([str(ATOLL), "wan", "heal", self._cut])
            steps.append(Step("heal the WAN", f"{self._cut} is reached again"))
            self._cut = ""
        if self._at:
            begun = time.monotonic()
            self._at_site(self._at, "openstack", "server", "delete", "--wait", self._name)
            steps.append(Step("delete the server", f"at {self._at}", _since(begun)))
            self._at = ""
        for words in self._made:
            self._at_site(self._first, "openstack", *words)
        if self._made:
            steps.append(Step("delete what was made", ", ".join(words[0] for words in self._made)))
            self._made = []
        return steps

    def _find(self, place: str) -> tuple[Step, str]:
        """Ask the gateway of a place's site, as a device there does, which site is nearest."""
        begun = time.monotonic()
        words = ("cloudlet", "find", "--json", "--overlay", self._image)
        zone = json.loads(self._at_site(self._places[place], str(ATOLL), *words))
        return Step(f"find the nearest site from {place}", zone["name"], _since(begun)), zone["name"]

    def _boot(self, site: str) -> str:
        words = ("--image", self._image, "--flavor", self._flavor(site), "--network", NETWORK, "--wait", self._name)
        shown = self._openstack(site, "server", "create", *words)
        self._at = site
        return f"{shown['id']} is {shown['status']} at {site}"

    def _replace(self, before: str, site: str) -> Step:
        begun = time.monotonic()
        self._at_site(before, "openstack", "server", "delete", "--wait", self._name)
        self._at = ""
        return Step("start another server instead", self._boot(site) + f"; the one at {before} is deleted", _since(begun))

    def _flavor(self, site: str) -> str:
        """Return the smallest flavor with the memory that the server needs."""
        fits = [each for each in self._openstack(site, "flavor", "list") if each["RAM"] >= self._memory_mib]
        if not fits:
            raise CloudError(f"{site} has no flavor with {self._memory_mib} MiB of memory")
        return str(min(fits, key=lambda each: (each["RAM"], each["Name"]))["Name"])

    def _overlay(self, directory: Path) -> tuple[str, str]:
        """Make a base and an overlay and upload both; return the id of the overlay's image, and what it is."""
        base, application = directory / "base.raw", directory / "application.raw"
        if self.real:
            _run([str(ATOLL), "image", "build", str(base)])
        else:
            base.write_bytes(np.random.default_rng(0).bytes(8 * _MIB))
        application.write_bytes(base.read_bytes() + _program())
        key, trusted = directory / "key.pem", directory / "public.pem"
        _run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)])
        _run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(trusted)])
        _run([str(ATOLL), "cloudlet", "base", str(directory / "base"), "--disk", str(base)])
        made = ("--base", str(directory / "base"), "--disk", str(application), "--key", str(key))
        _run([str(ATOLL), "cloudlet", "overlay", str(directory / "overlay"), *made])
        keep = ",".join(dict.fromkeys(self._places.values()))
        upload = (str(ATOLL), "cloudlet", "upload", "--json", "--keep", keep)
        self._uploaded(*upload, "--name", f"{self._name}-base", str(directory / "base"))
        image = self._uploaded(*upload, "--name", self._name, "--trust", str(trusted), str(directory / "overlay"))
        size = (directory / "overlay").stat().st_size
        return image, f"an overlay of {size / _MIB:.2f} MiB on a base of {base.stat().st_size / _MIB:.0f} MiB, kept at {keep}"

    def _uploaded(self, *words: str) -> str:
        """Upload a base or an overlay, and return its image's id; one that was not there is deleted in the end."""
        told = json.loads(self._at_site(self._first, *words))
        if told["uploaded"]:
            self._made.append(("image", "delete", told["image"]))
        return str(told["image"])

    def _openstack(self, site: str, *words: str) -> Any:
        output = self._at_site(site, "openstack", *words, "-f", "json")
        return json.loads(output) if output.strip() else {}

    def _at_site(self, site: str, *words: str) -> str:
        return _run([str(ATOLL), "exec", site, "--", *words])


def _program() -> bytes:
    """Return this package's code, filled up to whole MiB: the part of the disk that only the application has."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    return code + bytes(-len(code) % _MIB)


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 2)


def _run(words: list[str]) -> str:
    """Run a command of the project, and return its output.

    Raises:
        CloudError: the command failed.
    """
    path = f"{ATOLL.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | {"PATH": path}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise CloudError((lines or ["the command failed: " + " ".join(words)])[0].removeprefix("error: "))
    return done.stdout
