"""Fuzz target for the metadata port of a site's Nova: bytes of a guest's proxy, through the services' server to Nova's handler.

Processes of the site may send to it, and guests through their proxies, which sign the guest's id. Nova answers nothing without it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import time
from typing import Any

from ports import LONGEST_S, Finding

SECRET = "the site's"
GUEST = "5b5b5b5b-0000-4000-8000-000000000000"
SIGNATURE = hmac.new(SECRET.encode(), GUEST.encode(), hashlib.sha256).hexdigest()

_TOLD = b"what only the guest may know"
_ANSWER = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9] ")
"""A valid answer. It may be 500: Nova's answer to a signature outside ASCII, which only a process of the site could send."""


class _Metadata:
    """The metadata of a guest."""

    def lookup(self, path: str) -> dict[str, str]:
        from nova.api.metadata import base

        if path.count("/") > 3:
            raise base.InvalidMetadataPath(path)
        return {"told": _TOLD.decode()}

    def get_mimetype(self) -> str:
        return "text/plain"


class MetadataPort:
    """Nova's handler behind the services' server, one connection for each input."""

    def __init__(self) -> None:
        from nova.api.metadata import handler
        from nova.conf import CONF
        from oslo_log import log

        from atoll.services.patches.shared.slow_clients import WatchedConnection
        from atoll.services.wsgi import Server

        log.register_options(CONF)
        CONF([], project="nova", default_config_files=[])
        CONF.set_override("service_metadata_proxy", True, group="neutron")
        CONF.set_override("metadata_proxy_shared_secret", SECRET, group="neutron")
        application = handler.MetadataRequestHandler()
        application._get_meta_by_instance_id = self._metadata_of
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = Server(self._listener, application)
        self._server.arrivals = self
        self._connection: Any = WatchedConnection

    def upload_ended(self) -> None:
        """Ignore the end of an upload, which a connection reports to its manager."""

    def _metadata_of(self, instance: str, _project: str, _address: str) -> _Metadata:
        if instance != GUEST:
            raise Finding(f"metadata of {instance}, which nobody has signed for")
        return _Metadata()

    def feed(self, data: bytes) -> None:
        """Receive an input in one piece, and check the answer."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(data[: 64 << 10])
            ours.shutdown(socket.SHUT_WR)
            connection = self._connection(self._server, theirs)
            theirs.settimeout(LONGEST_S)
            begun = time.process_time()
            try:
                while connection.communicate():
                    pass
            finally:
                connection.close()
            if time.process_time() - begun > LONGEST_S:
                raise Finding("it takes too long")
            ours.settimeout(LONGEST_S)
            answer = b"".join(iter(lambda: ours.recv(65536), b""))
        if answer and not _ANSWER.match(answer):
            raise Finding(answer[:100].decode("latin-1"))
        if _TOLD in answer and SIGNATURE.encode() not in data:
            raise Finding("a guest's metadata, without a signature")
