"""The record of a cloud on a testbed, in a state directory on the user's machine: its hosts, and the finished steps.

- `testbed.json`: this record.
- `provider.yaml`: a copy of the provider's file.
- `clouds.yaml`: for OpenStack's clients, with an entry for each site.
- `known_hosts`: the hosts' SSH keys.
- `enoslib/`: the working directory of EnOSlib.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from atoll.cloud import Cloud
from atoll.cloud.document import make_cloud, to_data
from atoll.errors import AtollError
from atoll.files import write_private
from atoll.site.state import State
from atoll.testbed.host import RemoteHost

FILE, PROVIDER_FILE, KNOWN_HOSTS, WORK = "testbed.json", "provider.yaml", "known_hosts", "enoslib"


@dataclass(frozen=True)
class Placed:
    """A site on its host.

    Attributes:
        host: the host.
        address: the IPv4 address at which the other sites reach this one; empty until it is known.
        python: the path of Python on the host; empty until it is known.
        directory: the directory of Atoll on the host.
        program: the path of Atoll on the host; empty until it is installed.
        token: the token of an unfinished join, with which the join must be repeated; empty if there is none.
        member: whether the site has founded the cloud or joined it.
    """

    host: RemoteHost
    address: str = ""
    python: str = ""
    directory: str = ""
    program: str = ""
    token: str = ""
    member: bool = False

    @property
    def state(self) -> str:
        """The path of the site's state directory on the host."""
        return f"{self.directory}/state"


@dataclass
class HostsRecord:
    """The record; `save` writes it after each step.

    Attributes:
        state: the state directory.
        known_hosts: the path of the user's own file with SSH keys; empty means a file in the state directory.
        cloud: the cloud as last applied.
        constrained: whether EnOSlib may have constrained links of the hosts.
        placed: the sites on their hosts, by name, in the order of the cloud.
    """

    state: State
    cloud: Cloud
    known_hosts: str = ""
    constrained: bool = False
    placed: dict[str, Placed] = field(default_factory=dict)

    def save(self) -> None:
        """Write the record to the state directory."""
        content = {
            "cloud": to_data(self.cloud),
            "known_hosts": self.known_hosts,
            "constrained": self.constrained,
            "placed": {name: asdict(each) for name, each in self.placed.items()},
        }
        write_private(self.state.root / FILE, json.dumps(content, indent=1) + "\n")

    def change(self, name: str, **changes: Any) -> Placed:
        """Change fields of a site, write the record, and return the site on its host."""
        self.placed[name] = replace(self.placed[name], **changes)
        self.save()
        return self.placed[name]

    def check_known(self, names: Sequence[str]) -> None:
        """Check that all names are names of sites.

        Raises:
            AtollError: `site.unknown`: a name is not the name of a site.
        """
        for name in names:
            if name not in self.placed:
                known = ", ".join(self.placed)
                raise AtollError("site.unknown", f"no site is called {name}: expected one of {known}", "see `atoll status`")

    @property
    def pythons(self) -> dict[str, str]:
        """The path of Python on each host, by its SSH address."""
        return {each.host.address: each.python for each in self.placed.values()}

    @property
    def founder(self) -> Placed | None:
        """The first site that is a member; `None` if there is none."""
        return next((each for each in self.placed.values() if each.member), None)


def exists(state: State) -> bool:
    """Return whether the cloud of a state directory is on a testbed."""
    return (state.root / FILE).exists()


def load(state: State) -> HostsRecord | None:
    """Return the record of a state directory; `None` if it has none.

    Raises:
        AtollError: `state.unusable`: the record is damaged.
    """
    path = state.root / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        placed = {name: _placed(each) for name, each in content["placed"].items()}
        return HostsRecord(state, make_cloud(content["cloud"], {}), content["known_hosts"], content["constrained"], placed)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AtollError("state.unusable", f"{path} is damaged: {error}", "release the hosts with the testbed's own tools") from None


def _placed(data: Mapping[str, Any]) -> Placed:
    return Placed(**{**data, "host": RemoteHost(**data["host"])})
