"""Relations of Neutron's models that are empty for most rows, loaded only for rows that have any.

Neutron loads the collections of each row that it reads (`lazy='selectin'` or `'subquery'`), one statement for each collection. Most
networks, subnets and ports have no tags, name servers, routes or address pairs, so most of these statements return nothing. For security
groups and their rules, it asks row by row whether the group is a project's default group.

These relations get the strategy of `services/patches/shared/if_any_loader.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sqlalchemy.orm import class_mapper, configure_mappers

from atoll.services.patches.shared.if_any_loader import LAZY

MOSTLY_EMPTY = {
    "neutron_lib.db.standard_attr:StandardAttribute": ("tags",),
    "neutron.db.models_v2:Network": ("dhcp_agents",),
    "neutron.db.models_v2:Subnet": ("dns_nameservers", "routes", "service_types"),
    "neutron.db.models.segment:NetworkSegment": ("segment_host_mapping",),
    "neutron.db.models.securitygroup:SecurityGroup": ("default_security_group",),
    "neutron.db.models.securitygroup:SecurityGroupRule": ("default_security_group",),
    "neutron.db.models_v2:Port": (
        *("allowed_address_pairs", "binding_levels", "dhcp_opts", "hardware_offload_type", "hints"),
        *("port_forwardings", "trusted"),
    ),
}
"""Relations that are empty for most rows, by their model. Each refers to a single column of the model."""


def install() -> None:
    """Load these relations only for rows that have any; call this before the first statement of the process."""
    configure_mappers()
    for path, keys in MOSTLY_EMPTY.items():
        module, _, name = path.partition(":")
        for key in keys:
            relation: Any = class_mapper(getattr(import_module(module), name)).get_property(key)
            # `lazy` keeps upstream's value, by which neutron_lib.db.api finds the relations to load for rows that were just created.
            relation.strategy_key = (("lazy", LAZY),)
            relation.strategy = relation._get_strategy(relation.strategy_key)
