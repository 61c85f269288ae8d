"""Asks the gateway of this site to bring the base of an overlay from another site, with the token of the server's creator."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import requests

from atoll.services.nova.synthesis.overlays import OverlayRefusal

CONNECT_S = 5.0
"""Seconds to open a connection to the gateway."""

ANSWER_S = 90.0
"""Seconds to wait for an answer; the gateway answers after 20 s although the transfer still goes on."""

PATIENCE_S = 60.0
"""Seconds for which a gateway that does not answer, or is busy, is asked again."""

PAUSE_S = 1.0
"""Seconds between two such requests."""

LONGEST_S = 6 * 3600.0
"""Greatest number of seconds that a base may take; a token is rarely valid for longer."""

MOST_MESSAGE = 150
"""Greatest number of characters of the gateway's reason in a fault, of which Nova keeps 255."""

_AGAIN = frozenset((429, 502))


@dataclass(frozen=True)
class GatewayClient:
    """The requests to this site's gateway.

    Attributes:
        url: the gateway's URL, which ends without a slash.
        tls: the certificates of a compute site, by the names of keystoneauth's options; empty at a full site, which uses no TLS.
        sleep: waits for a number of seconds.
        clock: returns monotonic seconds.
    """

    url: str
    tls: Mapping[str, str] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def bring_base(self, overlay: str, token: str, request_id: str, wrong: Collection[str] = ()) -> None:
        """Have the base of an overlay brought to this site, and wait until it is there.

        Args:
            overlay: the id of the overlay's image.
            token: the token of the server's creator.
            request_id: the id of the creator's request.
            wrong: ids of images whose data are not the base.

        Raises:
            OverlayRefusal: the base can't be brought; with the gateway's reason.
        """
        began = failing = self.clock()
        headers = {"X-Auth-Token": token, "X-Openstack-Request-Id": request_id}
        while True:
            status, reason = self._ask(f"/cloudlet/v1/overlays/{overlay}/base", {"wrong": sorted(wrong)}, headers)
            now = self.clock()
            if status == 200:
                return
            if status == 202:
                failing = now
            elif status not in _AGAIN or now - failing > PATIENCE_S:
                raise OverlayRefusal(reason)
            else:
                self.sleep(PAUSE_S)
            if now - began > LONGEST_S:
                raise OverlayRefusal(f"the overlay's base has not arrived in {LONGEST_S / 3600:.0f} hours")

    def _ask(self, path: str, body: dict[str, list[str]], headers: Mapping[str, str]) -> tuple[int, str]:
        """Return the status of the gateway's answer, and its reason; 502 if it does not answer."""
        tls = self.tls
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy, and no .netrc
                if tls:
                    session.verify, session.cert = tls["cafile"], (tls["certfile"], tls["keyfile"])
                session.headers.update(headers)
                reply = session.post(self.url + path, json=body, timeout=(CONNECT_S, ANSWER_S), allow_redirects=False)
                reason = reply.json()["error"]["message"] if reply.status_code >= 300 else ""
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return 502, "the overlay's base is not at this site, and the site's gateway does not answer"
        return reply.status_code, " ".join(str(reason).split())[:MOST_MESSAGE]
