"""Pushes of changed objects to agents, left out where no agent listens.

After each change of a network, subnet, port or security group, ML2 loads the object anew, with all its relations, and sends it to
agents. Only agents of ML2/OVS and of some network services keep a cache of such objects. With OVN, or without a data plane, nobody receives
them.
"""

from __future__ import annotations

from neutron.plugins.ml2 import ovo_rpc


class NoPushes:
    """The interface to no agents: it subscribes to no changes."""


def install() -> None:
    """Have ML2 push no objects; call this before the core plug-in is loaded."""
    ovo_rpc.OVOServerRpcInterface = NoPushes
