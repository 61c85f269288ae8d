"""The request to hand off a server to another site, and the wait for its end, by a client of any site's gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from atoll.cloudlet.base import Report
from atoll.cloudlet.find import credentials, translated_errors
from atoll.errors import AtollError

LOOK_S = 0.5
"""Seconds between two looks at a hand-off."""

ALONE_S = 600.0
"""Seconds for which a gateway that does not answer is asked again, while a hand-off may go on."""

TIMEOUT_S = 180
"""Seconds to wait for one answer; the gateway may have to ask a site over a slow link."""

_STEPS = {
    "copying": "copying the disk",
    "fencing": "stopping the server",
    "fenced": "copying the last changes",
    "committing": "starting the server",
    "started": "deleting the server at its old site",
    "returning": "starting the server again at its old site",
}


@dataclass(frozen=True)
class HandedOff:
    """A server that was handed off, or was at the site already.

    Attributes:
        server: the server's id.
        source: the site where it was; empty if it was at the site already.
        site: the site where it is.
        addresses: its addresses there, each with the MAC address of the port; empty if it was there already.
        seconds: the duration.
    """

    server: str
    source: str
    site: str
    addresses: list[Mapping[str, str]]
    seconds: float


class HandoffClient:
    """A client of one gateway.

    Args:
        cloud: the name of a cloud in clouds.yaml; `None` means `OS_CLOUD`, or else the variables `OS_…`.
        sleep: waits for a number of seconds.

    Raises:
        AtollError: `discovery.credentials`: the credentials are missing or not those of a gateway.
    """

    def __init__(self, cloud: str | None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        with translated_errors():
            config, self._gateway = credentials(cloud)
            self._session: Any = config.get_session()

    def hand_off(self, name: str, site: str, report: Report) -> HandedOff:
        """Hand off a server, or continue a hand-off that was interrupted, and return when it is at the site.

        Args:
            name: the server's id or name.
            site: the site.
            report: called with the progress.

        Raises:
            AtollError: `server.unknown`; `cloudlet.handoff`: the server stays where it is; `cloudlet.unsettled`: the gateway does not
                answer any more; `discovery.*`: as for the constructor, or the gateway can't be reached.
        """
        began, server = time.monotonic(), self._server(name)
        shown = self._ask("POST", server, {"site": site})
        failing = time.monotonic()
        while shown["state"] not in {"done", "failed"} and not (shown["state"] == "copying" and not shown["running"]):
            progress = shown.get("progress", {})
            report(_STEPS.get(shown["state"], shown["state"]), progress.get("sent", 0), progress.get("length", 1))
            self._sleep(LOOK_S)
            try:
                shown, failing = self._ask("GET", server, handoff=shown["id"]), time.monotonic()
            except AtollError as error:
                if error.kind.code != "discovery.unreachable" or time.monotonic() - failing > ALONE_S:
                    raise AtollError("cloudlet.unsettled", f"the state of the hand-off is not known: {error.message}") from None
        if shown["state"] != "done":
            hint = None if shown["state"] == "failed" else "the same command continues where it stopped"
            raise AtollError("cloudlet.handoff", str(shown["reason"] or "the hand-off was interrupted"), hint)
        addresses = list(shown.get("result", {}).get("addresses", []))
        return HandedOff(server, str(shown.get("from", "")), str(shown["site"]), addresses, time.monotonic() - began)

    def _server(self, name: str) -> str:
        """Return the id of a server."""
        try:
            return str(UUID(name))
        except ValueError:
            pass
        with translated_errors():
            answer = self._session.get(f"{self._gateway}/compute/v2.1/servers", params={"name": f"^{name}$"}, raise_exc=False)
            found = [each["id"] for each in answer.json()["servers"] if each["name"] == name] if answer.ok else []
        if len(set(found)) != 1:
            how = "no server is" if not found else f"{len(set(found))} servers are"
            raise AtollError("server.unknown", f"{how} called {name}: expected the name of one, or an id", "`openstack server list`")
        return str(found[0])

    def _ask(self, method: str, server: str, body: Mapping[str, str] | None = None, handoff: str = "") -> dict[str, Any]:
        url = f"{self._gateway}/cloudlet/v1/servers/{server}/handoff" + (f"?id={handoff}" if handoff else "")
        with translated_errors():
            more = {} if body is None else {"json": dict(body)}
            answer = self._session.request(url, method, raise_exc=False, redirect=False, timeout=TIMEOUT_S, **more)
        try:
            said = answer.json()
            if answer.status_code in {200, 202}:
                return {"reason": "", "running": True, **said, "state": str(said["state"])}
            why = str(said["error"]["message"])
        except (ValueError, KeyError, TypeError):
            why = f"HTTP {answer.status_code}, and no message: the gateway may be of an earlier version"
        code = "server.unknown" if answer.status_code == 404 and " server " in why else "cloudlet.handoff"
        raise AtollError("discovery.unreachable" if method == "GET" and answer.status_code == 503 else code, " ".join(why.split()))
