"""Requests missing data for the disk of an overlay from this site's gateway, with the token of the server's creator."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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

SILENT_S = 30.0
"""Seconds without a byte of a disk after which its transfer is considered interrupted."""

SLACK = 4.0
"""Factor by which the transfer of a disk may exceed its expected time before it is given up, and the base is brought instead."""

SPARE_S = 30.0
"""Seconds that such a transfer may take in any case."""

SPARE_BYTES = 1 << 20
"""Bytes by which such a transfer may exceed the size that the other site has announced."""

_PIECE = 1 << 16
_AGAIN = frozenset((429, 502))


@dataclass(frozen=True)
class ServerCreator:
    """The creator of a server.

    Attributes:
        token: the token of the creator's request.
        request_id: the id of that request.
    """

    token: str = field(repr=False)
    request_id: str

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of a request in the creator's name."""
        return {"X-Auth-Token": self.token, "X-Openstack-Request-Id": self.request_id}


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

    def bring_base(self, overlay: str, creator: ServerCreator, wrong: Collection[str] = ()) -> None:
        """Have the base of an overlay brought to this site, and wait until it is there.

        Args:
            overlay: the id of the overlay's image.
            creator: the creator of the server.
            wrong: ids of images whose data are not the base.

        Raises:
            OverlayRefusal: the base can't be brought; with the gateway's reason.
        """
        began = failing = self.clock()
        while True:
            status, reason = self._ask(f"/cloudlet/v1/overlays/{overlay}/base", {"wrong": sorted(wrong)}, creator.headers)
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

    def fetch_launch(self, overlay: str, creator: ServerCreator, keys: Sequence[str], path: Path, max_bytes: int) -> bool:
        """Fetch the disk of an overlay's launch image from another site that has it, if it arrives sooner than the base would.

        Args:
            overlay: the id of the overlay's image.
            creator: the creator of the server.
            keys: the names of the signature keys that are accepted.
            path: the file to make, with the records of the disk (`atoll.cloudlet.launch_stream`).
            max_bytes: the greatest size of the disk in bytes, without holes.

        Returns:
            False if there is no such disk, it is too large, or its transfer was cut. The content of the file is not verified.

        Raises:
            OSError: the file can't be written.
        """
        try:
            with self._session(creator.headers) as session:
                target = f"{self.url}/cloudlet/v1/overlays/{overlay}/launch-image"
                with session.post(
                    target, json={"keys": list(keys)}, timeout=(CONNECT_S, SILENT_S), allow_redirects=False, stream=True
                ) as reply:
                    if reply.status_code != 200:
                        return False
                    size = int(reply.headers["X-Atoll-Size"])
                    until = self.clock() + SPARE_S + SLACK * float(reply.headers["X-Atoll-Expected-Seconds"])
                    return size <= max_bytes and self._receive(reply, path, size + SPARE_BYTES, until)
        except (requests.RequestException, ValueError, KeyError):
            return False

    def _receive(self, reply: requests.Response, path: Path, max_bytes: int, until: float) -> bool:
        """Write an answer to a file; return False if it is too large or too slow."""
        count = 0
        with path.open("xb") as file:
            for piece in reply.iter_content(_PIECE):
                count += len(piece)
                if count > max_bytes or self.clock() > until:
                    return False
                file.write(piece)
        return True

    @contextmanager
    def _session(self, headers: Mapping[str, str]) -> Iterator[requests.Session]:
        with requests.Session() as session:
            session.trust_env = False  # no proxy, and no .netrc
            if self.tls:
                session.verify, session.cert = self.tls["cafile"], (self.tls["certfile"], self.tls["keyfile"])
            session.headers.update(headers)
            yield session

    def _ask(self, path: str, body: dict[str, list[str]], headers: Mapping[str, str]) -> tuple[int, str]:
        """Return the status of the gateway's answer, and its reason; 502 if it does not answer."""
        try:
            with self._session(headers) as session:
                reply = session.post(self.url + path, json=body, timeout=(CONNECT_S, ANSWER_S), allow_redirects=False)
                reason = reply.json()["error"]["message"] if reply.status_code >= 300 else ""
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return 502, "the overlay's base is not at this site, and the site's gateway does not answer"
        return reply.status_code, " ".join(str(reason).split())[:MOST_MESSAGE]
