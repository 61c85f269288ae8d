"""The parts that bringing a thing takes, handed together to the functions that make it."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.gateway.bring.defaults import Defaults
from atoll.gateway.bring.grants import Grants
from atoll.gateway.bring.holders import Holders
from atoll.gateway.bring.ledger import Ledger


@dataclass(frozen=True)
class Means:
    """The parts that bringing a thing takes.

    Attributes:
        holders: tells how all sites hold a thing, and whether they agree.
        grants: lets the user's project use the copy, if its owner lets it.
        ledger: notes what was brought.
        defaults: gives a project's group `default` the rules that it has elsewhere.
    """

    holders: Holders
    grants: Grants
    ledger: Ledger
    defaults: Defaults
