"""Serial consoles of servers: finds a server by name or id, and opens its console as a site's administrator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from keystoneauth1.exceptions import ClientException

from atoll.errors import AtollError
from atoll.gateway.request.headers import MISSING
from atoll.services import Settings
from atoll.site.clients import admin_session

_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_HEADERS = {"OpenStack-API-Version": "compute 2.31"}


@dataclass(frozen=True)
class Console:
    """The serial console of a server.

    Attributes:
        server: the server's name.
        site: name of the site that has the server.
        url: URL of the WebSocket, which contains a token.
    """

    server: str
    site: str
    url: str


class Consoles:
    """Access to the consoles of servers at all sites, through the gateway of one site.

    Args:
        settings: settings of the site.
        session: a keystoneauth session; `None` means a new one of the site's administrator.
    """

    def __init__(self, settings: Settings, session: Any = None) -> None:
        self._settings = settings
        self._session: Any = session or admin_session(settings)

    def serial(self, wanted: str) -> Console:
        """Return the serial console of a server.

        Args:
            wanted: the server's id or name.

        Raises:
            AtollError: `server.unknown`: no server, or more than one, has the name; `console.unavailable`: the server has no console now;
                `site.not_running`: the gateway does not answer.
        """
        try:
            server = self._server(wanted)
            made = {"remote_console": {"protocol": "serial", "type": "serial"}}
            answer = self._ask("POST", f"/servers/{server['id']}/remote-consoles", json=made)
        except ClientException as error:
            message = f"{self._settings.site} gives an unexpected answer: {str(error).splitlines()[0]}"
            raise AtollError("site.not_running", message, "see `atoll status`; bring it up with `atoll up`") from error
        if answer.status_code != 200:
            hint = f"it has to be ACTIVE: `atoll openstack server show {server['id']}`"
            raise AtollError("console.unavailable", f"{server['name']} has no serial console now: {_words(answer)}", hint)
        return Console(server["name"], server.get("OS-EXT-AZ:availability_zone") or "", answer.json()["remote_console"]["url"])

    def _server(self, wanted: str) -> Any:
        if _UUID.fullmatch(wanted):
            answer = self._ask("GET", f"/servers/{wanted.lower()}")
            found = [answer.json()["server"]] if answer.status_code == 200 else []
        else:
            query = f"all_tenants=1&name={quote(f'^{re.escape(wanted)}$', safe='')}"
            answer = self._ask("GET", f"/servers/detail?{query}")
            found = answer.json()["servers"] if answer.status_code == 200 else []
        if len(found) > 1:
            places = ", ".join(f"{each['id']} at {each.get('OS-EXT-AZ:availability_zone') or '?'}" for each in found)
            raise AtollError("server.unknown", f"{len(found)} servers are called {wanted}: {places}: expected one", "give the id")
        if not found:
            missing = answer.headers.get(MISSING)
            where = f"; {missing} can't be asked now" if missing else ""
            said = "" if answer.status_code in {200, 404} or missing else f" ({_words(answer)})"
            hint = "see `atoll openstack server list --all-projects`"
            raise AtollError("server.unknown", f"no server has the name or id {wanted}{where}{said}", hint)
        return found[0]

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        url = self._settings.public_url("compute", f"/v2.1{path}")
        return self._session.request(url, method, headers=_HEADERS, raise_exc=False, **more)


def _words(answer: Any) -> str:
    """Return the message of an error answer of Nova, in one line."""
    try:
        (fault,) = answer.json().values()
        return " ".join(str(fault["message"]).split())
    except (ValueError, TypeError, KeyError):
        return f"HTTP {answer.status_code}"
