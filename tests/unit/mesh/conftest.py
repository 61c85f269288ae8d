import json
import socket

import pytest

from atoll.mesh.certificates import authority
from atoll.mesh.node import MeshOptions
from atoll.mesh.swim import SwimSettings

PACE = SwimSettings(period_s=0.5, retry_s=0.3, suspicion_s=1.0, min_timeout_s=0.3, max_timeout_s=0.6)


class Sites:
    """The directories, certificates and options of sites on loopback."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.authority = authority(directory / "ca", "unit")
        self._places: dict[str, tuple[str, int]] = {}

    def options(self, name: str, **fields) -> MeshOptions:
        host, port = self._place(name)
        home = self.directory / name
        self.authority.certify(home / "tls", name, host)
        defaults = {
            "cloud": "unit",
            "site": name,
            "host": host,
            "public_port": 1,
            "peer_port": 2,
            "mesh_port": port,
            "tls": home / "tls",
            "data": home / "data",
            "members_file": home / "members.json",
            "sign": self.authority.sign_request,
            "pace": PACE,
        }
        return MeshOptions(**{**defaults, **fields})

    def introduce(self, *names: str) -> None:
        """Write the members' file of each site, as `atoll up` does."""
        cards = json.dumps([self.options(name).card().dump() for name in names])
        for name in names:
            self.options(name).members_file.write_text(cards)

    def _place(self, name: str) -> tuple[str, int]:
        if name not in self._places:
            host = f"127.0.4.{len(self._places) + 1}"
            with socket.socket() as taken:
                taken.bind((host, 0))
                self._places[name] = host, taken.getsockname()[1]
        return self._places[name]


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path)
