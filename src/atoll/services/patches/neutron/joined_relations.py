"""Relations of Neutron's models that usually have a single row, read by the same statement as the row to which they belong.

Neutron loads the segments of a network, the allocation pools of a subnet and the fixed IPs of a port by one statement each
(`lazy='selectin'`). Nearly all networks, subnets and ports have exactly one such row, and few have more. So a join repeats few rows, and
saves a statement for each load. Only one relation of each model is joined here, so these joins do not multiply each other. The relations
that Neutron itself joins are entries of role-based access control.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sqlalchemy.orm import class_mapper, configure_mappers

FEW = {
    "neutron.db.models_v2:Network": "segments",
    "neutron.db.models_v2:Subnet": "allocation_pools",
    "neutron.db.models_v2:Port": "fixed_ips",
}
"""The relation of each model that is joined."""


def install() -> None:
    """Join these relations; call this before the first statement of the process."""
    configure_mappers()
    for path, key in FEW.items():
        module, _, name = path.partition(":")
        relation: Any = class_mapper(getattr(import_module(module), name)).get_property(key)
        # `lazy` keeps upstream's value, by which neutron_lib.db.api finds the relations to load for rows that were just created.
        relation.strategy_key = (("lazy", "joined"),)
        relation.strategy = relation._get_strategy(relation.strategy_key)
