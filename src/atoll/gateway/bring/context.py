"""The parts of the gateway that all functions which bring a resource need, passed as one argument."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.gateway.bring.default_groups import DefaultGroups
from atoll.gateway.bring.grants import Grants
from atoll.gateway.bring.holders import Holders
from atoll.gateway.bring.trust import SpeaksFor


@dataclass(frozen=True)
class BringContext:
    """The parts that the functions which bring a resource share.

    Attributes:
        holders: asks all sites for their descriptions of a resource, and checks that these agree.
        grants: gives the user's project the access to a copy that its owner has granted.
        default_groups: gives a project's group `default` the rules that it has at other sites.
        speaks_for: the trust in other sites' statements.
    """

    holders: Holders
    grants: Grants
    default_groups: DefaultGroups
    speaks_for: SpeaksFor
