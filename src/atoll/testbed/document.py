"""The provider's file: a provider of EnOSlib, its configuration, and the hosts of the sites by role.

A field's `description` completes the sentence "expected …" in error messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from atoll.cloud import yaml_errors
from atoll.cloud.yaml_errors import Form
from atoll.errors import AtollError

PREFIX = "enoslib:"
"""The start of the value of `--provider`; the rest is the path of the file."""

ANY_ROLE = "sites"
"""The role of hosts that any site may use."""

_PATH = r"^/[^\s'\"\\]*$"
_PATHS = "an absolute path without spaces and quotes"


class ProviderDocument(BaseModel):
    """The hosts of a testbed, and the sites on them.

    Attributes:
        provider: the provider of EnOSlib: "static" for existing hosts, "g5k" for Grid'5000, "vagrant" for local virtual machines,
            "chameleonkvm" or "chameleonbaremetal" for Chameleon.
        configuration: the configuration of this provider as EnOSlib documents it; EnOSlib checks it.
        roles: the role of the host that a site uses, by the site's name. A site without an entry uses a host whose role is the name of the
            site. If no host has this role, the site uses a host with the role `sites`. Each site gets a host of its own.
        network: the role of the network on which sites reach one another. Without this key, each site uses the first of the
            configuration's networks on which its host has an IPv4 address.
        directory: the directory of Atoll on each host, for its code and the site's data; `{site}` stands for the name of the site.
        atoll: the path of the program `atoll` on all hosts, if the same version is installed there already. Without this key, Atoll
            installs a copy of the checkout from which it runs.
        known_hosts: the path of a file with the hosts' SSH keys, relative to this file. Without this key, a host's first key is accepted,
            and later changes are refused.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    provider: Literal["static", "g5k", "vagrant", "chameleonkvm", "chameleonbaremetal"] = Field(
        description="`static`, `g5k`, `vagrant`, `chameleonkvm` or `chameleonbaremetal`"
    )
    configuration: dict[str, Any] = Field(description="a mapping, the provider's configuration as EnOSlib documents it")
    roles: dict[str, str] = Field(default_factory=dict, description="a mapping such as {paris: core}")
    network: str | None = Field(default=None, description="the role of a network of the configuration")
    directory: str = Field(default="/var/lib/atoll-testbed", pattern=_PATH, description=_PATHS)
    atoll: str | None = Field(default=None, pattern=_PATH, description=_PATHS)
    known_hosts: str | None = Field(default=None, min_length=1, description="the path of a file")


_FORM = Form(
    root=ProviderDocument,
    nested={},
    mappings={ProviderDocument: "a mapping with `provider` and `configuration`"},
    own_text=frozenset(),
    code="testbed.invalid",
    missing="testbed.not_found",
    kind="provider",
    example="a mapping with `provider` and `configuration`",
)


def read_provider(path: Path) -> ProviderDocument:
    """Read a provider's file.

    Raises:
        AtollError: `testbed.not_found`: the file does not exist; `testbed.invalid`: the file can't be read or is not valid.
    """
    return yaml_errors.read(path, _FORM)


def refused(path: Path, place: Sequence[str | int], text: str) -> AtollError:
    """Return the error for an item of `configuration` that EnOSlib refuses, with its line.

    Args:
        path: the provider's file.
        place: the keys and indices that lead to the item, below `configuration`.
        text: EnOSlib's reason.
    """
    whole = ("configuration", *place)
    line = yaml_errors.line_of(path.read_text(encoding="utf-8"), whole)
    return AtollError("testbed.invalid", f"{path}:{line}: {yaml_errors.spell(whole)}: {text}", "correct the file and run the command again")
