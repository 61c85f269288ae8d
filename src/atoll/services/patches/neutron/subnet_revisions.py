"""A relation of Neutron's subnets that is loaded when something reads it, and not with each subnet.

Neutron loads `Subnet.network_standard_attr` with every subnet (`lazy='selectin'`), by one statement, and a second one for the tags of the
row. Only the plug-in of revisions reads it, when a subnet changes, so that the revision of its network grows (`revises_on_change`). It does
so while it flushes the subnet's session, so the relation can be loaded then (`lazy='select'`), by the same statement in the same
transaction. A boot loads its subnet half a dozen times, and changes none.
"""

from __future__ import annotations

from typing import Any

from neutron.db import models_v2
from sqlalchemy.orm import configure_mappers

_ON_READING = "select"


def install() -> None:
    """Have `Subnet.network_standard_attr` loaded only when it is read; call this before the first statement of the process."""
    configure_mappers()
    relation: Any = models_v2.Subnet.network_standard_attr.property
    relation.lazy = _ON_READING
    relation.strategy_key = (("lazy", _ON_READING),)
    relation.strategy = relation._get_strategy(relation.strategy_key)
