"""The device's side of a cloudlet: finds the nearest site, starts the application's server there, and waits until it answers.

Everything is asked of the gateway that the credentials name, by the APIs of OpenStack and of edge discovery; nothing is kept on the device.
The server's metadata name its image (`RUN`). So the same request again finds the server instead of starting another one, also after a
failure, from another device, or if an answer was lost.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from atoll.cloudlet.base import Report
from atoll.cloudlet.find import credentials, find, translated_errors
from atoll.errors import AtollError
from atoll.overlay_images import BASE, TRUST

RUN = "atoll_cloudlet_run"
"""Key in a server's metadata: the id of the image from which `atoll cloudlet run` has started it."""

LOOK_S = 1.0
"""Seconds between two looks at a server, and between two attempts to reach it."""

TIMEOUT_S = 60
"""Seconds to wait for one answer of the gateway, which may have to bring the image to the site first."""

CONNECT_S = 3.0
"""Seconds to wait for a connection to the server."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MISSING = "X-Atoll-Missing"


@dataclass(frozen=True)
class WantedRun:
    """The server that a device wants.

    Attributes:
        image: the id or the name of the application's image, usually an overlay.
        name: the server's name; empty for that of the image.
        flavor: the id or the name of the flavor; empty for the smallest that fits the image.
        network: the id or the name of the network; empty for the only one of the project.
        port: the TCP port that must accept a connection; 0 to wait only until the server has an address.
        trust: the names of the keys that may have signed the overlay, if it is another project's.
        wait_s: the seconds to wait until the server answers.
    """

    image: str
    name: str = ""
    flavor: str = ""
    network: str = ""
    port: int = 0
    trust: tuple[str, ...] = ()
    wait_s: float = 300.0


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        server: the server's id.
        name: its name.
        site: the site where it is.
        nearest: the site that is nearest to the device now; another one if the device has moved since the server was started.
        address: the address at which it answers.
        port: the port that accepts connections; 0 if none was named.
        started: whether this request has created the server.
        missing: the sites that did not answer, joined by commas; they may have such a server too.
        seconds: the duration.
    """

    server: str
    name: str
    site: str
    nearest: str
    address: str
    port: int
    started: bool
    missing: str
    seconds: float


@dataclass
class CloudletRunner:
    """Starts servers near a device.

    Attributes:
        cloud: the name of a cloud in clouds.yaml; `None` means `OS_CLOUD`, or else the variables `OS_…`.
        sleep: waits for a number of seconds.
        clock: monotonic seconds.
    """

    cloud: str | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        with translated_errors():
            config, self._gateway = credentials(self.cloud)
            self._session: Any = config.get_session()

    def run(self, wish: WantedRun, report: Report) -> Running:
        """Find or start a server near the device, and return once it answers.

        Args:
            wish: see `WantedRun`.
            report: called with the progress.

        Raises:
            AtollError: `cloudlet.run`: no server can be started, and none is left behind; `cloudlet.unready`: the server does not answer
                yet, and stays; `discovery.*`: no site is found, or the gateway can't be asked.
        """
        try:
            return self._run(wish, report)
        except (KeyError, TypeError, AttributeError) as error:
            raise AtollError("cloudlet.run", f"an answer of the gateway is malformed ({type(error).__name__}: {error})") from None

    def _run(self, wish: WantedRun, report: Report) -> Running:
        began = self.clock()
        report("finding the nearest site", 0, 1)
        image = self._image(wish.image)
        name = wish.name or str(image.get("name") or "")
        if not _NAME.fullmatch(name):
            what = "expected 1 to 63 letters, digits, dots, hyphens and _, the first a letter or digit"
            raise AtollError("cloudlet.run", f"{name!r:.80} can't be the name of the server: {what}", "name it by --name")
        zone = find(self.cloud, None, str(image["id"]) if BASE in image else None)
        found, missing = self._servers(name, str(image["id"]))
        made = ""
        if not found:
            report(f"starting the server at {zone.name}", 0, 1)
            made = self._create(wish, name, image, zone.name)
        server = self._ready(made or str(found[0]["id"]), made, began + wish.wait_s, report)
        if made:
            found, missing = self._servers(name, str(image["id"]))
            if found and found[0]["id"] != made:  # another device has started one at the same time: both choose the same one
                self._delete(made)
                made = ""
                server = self._ready(str(found[0]["id"]), made, began + wish.wait_s, report)
        address = self._answering(server, wish.port, began + wish.wait_s, report)
        site = str(server.get("OS-EXT-AZ:availability_zone") or "")
        return Running(str(server["id"]), name, site, zone.name, address, wish.port, bool(made), missing, self.clock() - began)

    # What the server is made of

    def _image(self, wanted: str) -> dict[str, Any]:
        """Return the image with an id or a name."""
        shown = self._ask("GET", f"/image/v2/images/{wanted}", (404,)) if _is_uuid(wanted) else None
        if shown is not None and "id" in shown:
            return shown
        listed = self._ask("GET", "/image/v2/images", name=wanted).get("images", [])
        return self._only(listed, f"image {wanted}", "`openstack image list`")

    def _flavor(self, wanted: str, image: Mapping[str, Any]) -> str:
        """Return the id of the flavor with an id or a name, or else of the smallest that fits an image."""
        listed = self._ask("GET", "/compute/v2.1/flavors/detail").get("flavors", [])
        if wanted:
            found = [each for each in listed if wanted in {each["id"], each["name"]}]
            return str(self._only(found, f"flavor {wanted}", "`openstack flavor list`")["id"])
        memory_mb, disk_gb = int(image.get("min_ram") or 0), int(image.get("min_disk") or 0)
        fits = [each for each in listed if each["ram"] >= memory_mb and (each["disk"] == 0 or each["disk"] >= disk_gb)]
        if not fits:
            raise AtollError("cloudlet.run", f"no flavor has {memory_mb} MB of memory and {disk_gb} GB of disk, which the image needs")
        return str(min(fits, key=lambda each: (each["ram"], each["vcpus"], each["disk"], each["name"]))["id"])

    def _network(self, wanted: str) -> str:
        """Return the id of the network with an id or a name."""
        if _is_uuid(wanted):
            return wanted
        listed = self._ask("GET", "/network/v2.0/networks", name=wanted).get("networks", [])
        return str(self._only(listed, f"network {wanted}", "`openstack network list`")["id"])

    @staticmethod
    def _only(found: list[dict[str, Any]], what: str, hint: str) -> dict[str, Any]:
        by_id = {each["id"]: each for each in found}
        if len(by_id) != 1:
            how = "there is no" if not by_id else f"there are {len(by_id)} of the name:"
            raise AtollError("cloudlet.run", f"{how} {what}: expected the name of one, or an id", hint)
        return next(iter(by_id.values()))

    # The server

    def _servers(self, name: str, image: str) -> tuple[list[dict[str, Any]], str]:
        """Return the servers that were started for a name and an image, the oldest first, and the sites that did not answer."""
        with translated_errors():
            answer = self._session.get(
                f"{self._gateway}/compute/v2.1/servers/detail",
                params={"name": "^" + name.replace(".", r"\.") + "$"},
                raise_exc=False,
                redirect=False,
                timeout=TIMEOUT_S,
            )
        listed = self._body(answer, ()).get("servers", [])
        found = [each for each in listed if each.get("name") == name and (each.get("metadata") or {}).get(RUN) == image]
        return sorted(found, key=lambda each: (str(each.get("created")), each["id"])), str(answer.headers.get(_MISSING, ""))

    def _create(self, wish: WantedRun, name: str, image: Mapping[str, Any], site: str) -> str:
        server: dict[str, Any] = {
            "name": name,
            "imageRef": image["id"],
            "flavorRef": self._flavor(wish.flavor, image),
            "availability_zone": site,
            "metadata": {RUN: str(image["id"])} | ({TRUST: ",".join(wish.trust)} if wish.trust else {}),
        }
        if wish.network:
            server["networks"] = [{"uuid": self._network(wish.network)}]
        return str(self._ask("POST", "/compute/v2.1/servers", json={"server": server})["server"]["id"])

    def _ready(self, identifier: str, made: str, until: float, report: Report) -> dict[str, Any]:
        """Return a server once it runs and has an address; start it if it is stopped, and delete it if it could not start.

        Args:
            identifier: the server's id.
            made: the id of the server that was created now; empty for none.
            until: the monotonic time in seconds to wait for.
            report: called with the progress.
        """
        began, told = self.clock(), False
        while True:
            shown = self._ask("GET", f"/compute/v2.1/servers/{identifier}", (404,)).get("server")
            if shown is None:
                raise AtollError("cloudlet.run", f"the server {identifier} was deleted meanwhile", "the same command starts another one")
            status = str(shown.get("status"))
            if status == "ERROR":
                self._failed(shown, made)
            if status == "SHUTOFF" and not told:
                self._ask("POST", f"/compute/v2.1/servers/{identifier}/action", (409,), json={"os-start": None})
                told = True
            elif status not in {"ACTIVE", "BUILD", "SHUTOFF"}:
                message = f"the server {identifier} is {status}: expected ACTIVE"
                raise AtollError("cloudlet.run", message, f"`openstack server show {identifier}`")
            if status == "ACTIVE" and _addresses(shown):
                return dict(shown)
            if self.clock() > until:
                message = f"the server {identifier} is {status}, and has no address yet"
                raise AtollError("cloudlet.unready", message, "the same command waits for it again")
            report("waiting for the server", int(self.clock() - began), int(max(until - began, 1)))
            self.sleep(LOOK_S)

    def _failed(self, shown: Mapping[str, Any], made: str) -> None:
        """Raise the error of a server that has failed; delete it if it has never run, so that the same request can start another one."""
        reason = str((shown.get("fault") or {}).get("message") or "Nova gives no reason")
        if made == shown["id"] or shown.get("OS-SRV-USG:launched_at") is None:
            with suppress(AtollError):
                self._delete(str(shown["id"]))
            raise AtollError("cloudlet.run", f"the server could not start: {reason}")
        raise AtollError("cloudlet.run", f"the server {shown['id']} has failed: {reason}", f"`openstack server show {shown['id']}`")

    def _delete(self, identifier: str) -> None:
        self._ask("DELETE", f"/compute/v2.1/servers/{identifier}", (404,))

    def _answering(self, server: Mapping[str, Any], port: int, until: float, report: Report) -> str:
        """Return the first address of a server at which a port accepts connections; without a port, its first address."""
        addresses, began = _addresses(server), self.clock()
        while port:
            for address in addresses:
                if _accepts(address, port):
                    return address
            if self.clock() > until:
                where = ", ".join(addresses)
                message = f"the server {server['id']} does not accept connections at port {port} of {where} yet"
                raise AtollError("cloudlet.unready", message, "the same command waits again; check the project's security groups")
            report("waiting for the application", int(self.clock() - began), int(max(until - began, 1)))
            self.sleep(LOOK_S)
        return addresses[0]

    # Requests

    def _ask(self, method: str, path: str, accepted: tuple[int, ...] = (), json: Any = None, **query: str) -> dict[str, Any]:
        with translated_errors():
            more = {} if json is None else {"json": json}
            answer = self._session.request(
                self._gateway + path, method, params=query, raise_exc=False, redirect=False, timeout=TIMEOUT_S, **more
            )
        return self._body(answer, accepted)

    @staticmethod
    def _body(answer: Any, accepted: tuple[int, ...]) -> dict[str, Any]:
        """Return the body of an answer; an empty one for an error that is accepted."""
        try:
            body = answer.json() if answer.content else {}
        except ValueError:
            body = None
        if answer.status_code in accepted:
            return {}
        if answer.status_code < 300 and isinstance(body, dict):
            return body
        said = next(iter(body.values()), None) if isinstance(body, dict) else None
        why = str(said.get("message")) if isinstance(said, dict) else f"HTTP {answer.status_code}, and no message"
        code = "discovery.unreachable" if answer.status_code == 503 else "cloudlet.run"
        raise AtollError(code, " ".join(why.split())[:300], _hint(why))


def _hint(why: str) -> str | None:
    return "name one by --network" if "networks found" in why else None


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _addresses(server: Mapping[str, Any]) -> list[str]:
    """Return the addresses of a server, floating ones first."""
    every = [each for addresses in (server.get("addresses") or {}).values() for each in addresses]
    floating = [each["addr"] for each in every if each.get("OS-EXT-IPS:type") == "floating"]
    return [*floating, *(each["addr"] for each in every if each["addr"] not in floating)]


def _accepts(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), CONNECT_S).close()
    except OSError:
        return False
    return True
