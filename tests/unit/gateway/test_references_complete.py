"""The table of references has every field of upstream.

If a test fails here, upstream has a new field: if it refers to a resource, add it to the table in `resolve/references.py`, otherwise to the
plain fields below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from upstream_fields import upstream

from atoll.gateway.bring import network
from atoll.gateway.resolve import references as table

PLAIN_OF_NOVA = re.compile(
    r"quota(_class)?_set\..*|(.*\.)?meta(data)?\.\*|\*|extra_specs\.\*|flavor\..*"
    r"|(addFloatingIp|server|rebuild)\.(adminPass|accessIPv[46]|OS-DCF:diskConfig|user_data|hostname|preserve_ephemeral|config_drive)"
    r"|(server|rebuild|createImage|createBackup|aggregate|server_group|keypair|security_group|share|snapshot|volume)\.(display_)?(name|description)"
    r"|(server|rebuild)\.personality\[\]\.(contents|path)"
    r"|server\.(min_count|max_count|return_reservation_id|tags\[\])|server\.networks\[\]\.(tag|fixed_ip)"
    r"|server\.block_device_mapping(_v2)?\[\]\.(connection_info|delete_on_termination|device_name|no_device|virtual_name|volume_size"
    r"|boot_index|device_type|disk_bus|guest_format|source_type|destination_type|tag)"
    r"|os(-SCH-HNT)?:scheduler_hints\.(cidr|query)|OS-SCH-HNT:scheduler_hints\.(cidr|query)"
    r"|(changePassword|evacuate|rescue)\.adminPass|evacuate\.(force|onSharedStorage)"
    r"|createBackup\.(backup_type|rotation)|os-getConsoleOutput\.length|os-migrateLive\.(block_migration|disk_over_commit|force)"
    r"|os-migrateLive\.disk_over_commit|lock\.locked_reason|interfaceAttachment\.tag|share\.tag|tags\[\]"
    r"|events\[\]\.(name|status|tag)|keypair\.(public_key|type)|server_group\.(policy|rules\.max_server_per_host)"
    r"|security_group_rule\.(cidr|from_port|ip_protocol|to_port)|snapshot\.(force|create_info\.(new_file|type))|volume\.size"
    r"|volumeAttachment\.(delete_on_termination|device|tag)|binary|disabled_reason|forced_down|status|maintenance_mode"
    # Actions without a body.
    r"|confirmResize|revertResize|forceDelete|restore|injectNetworkInfo|lock|unlock|pause|unpause|suspend|resume|shelve|shelveOffload|unshelve"
    r"|unrescue|os-start|os-stop|aggregate"
)
"""Fields of Nova that refer to no resource."""

PLAIN_TYPES = frozenset(
    (
        *("boolean", "values", "range", "range_or_none", "non_negative", "name_string", "name_string_or_none", "not_empty_name_string"),
        *("name_not_default", "name_string_not_default", "ip_address", "ip_address_or_none", "subnet", "subnet_or_none", "subnet_list"),
        *("list_of_subnets_or_none", "ip_or_subnet_or_none", "ip_pools", "nameservers", "hostroutes", "mac_address", "port_range"),
        *("allowed_address_pairs", "regex_or_none", "list_of_regex_or_none", "dns_domain_name", "dns_host_name", "fip_dns_host_name"),
        *("availability_zone_hint_list", "list_of_subnet_service_types", "service_plugin_type", "dict", "dict_or_none", "dict_or_empty"),
    )
)
"""Neutron's validators of values that refer to no resource; for dictionaries, the keys are examined instead."""

NESTED = {
    "fixed_ips": ("[].subnet_id",),
    "subports": ("[].port_id",),
    "network_segments": ("[].provider:physical_network",),
    "uuid_list": ("[]",),
    "uuid_list_non_empty": ("[]",),
}
"""The parts of the values of Neutron's other validators that name a resource."""

PLAIN_OF_NEUTRON = frozenset(
    (
        *("name", "description", "action", "resource_type", "object_type", "driver", "metainfo", "helper", "psk", "password"),
        *("peer_address", "peer_id", "local_id", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "source_ip_prefix"),
        *("destination_ip_prefix", "device_owner", "network_type", "provider:network_type", "provider:segmentation_id", "segmentation_id"),
        *("binding:profile", "profile", "hints", "extra_dhcp_opts", "qinq", "id", "type"),
        *("opt_name", "opt_value", "IN", "OUT", "BOTH"),
    )
)
"""Attributes of Neutron of other types that refer to no resource; `id` is the resource's own id unless it is in the table."""

PLAIN_ACTIONS = frozenset(
    ("add_addresses", "remove_addresses", "activate", "add_extraroutes", "remove_extraroutes", "add_prefixes", "remove_prefixes")
)

PLAIN_OF_GLANCE = frozenset(
    ("id", "name", "visibility", "protected", "os_hidden", "container_format", "disk_format", "tags", "min_ram", "min_disk")
)


def known(fields: tuple[table.Field, ...]) -> set[str]:
    return {field.path for field in fields}


def test_every_field_of_nova():
    paths = {field.path for fields in table.COMPUTE.values() for field in fields}
    unknown = {path for path in upstream()["nova"] if path not in paths and not PLAIN_OF_NOVA.fullmatch(path)}
    assert unknown == set()


def test_the_table_has_no_field_that_nova_lacks():
    implied = {field.path for fields in table.COMPUTE.values() for field in fields if field.implied}
    paths = {field.path for fields in table.COMPUTE.values() for field in fields} - implied
    there = {path.removesuffix("[]") for path in upstream()["nova"]}
    assert {path for path in paths if path.removesuffix("[]") not in there} == set()


def references_in(name: str, attribute: dict[str, Any]) -> Iterator[str]:
    """Yield the paths at and below an attribute of Neutron that may refer to resources."""
    validate = attribute.get("validate") or {}
    if not validate and (isinstance(attribute.get("default"), bool) or "convert_to" in attribute) and not name.endswith("_id"):
        return
    for kind, said in validate.items() or [("type:unknown", None)]:
        plain = kind.removeprefix("type:")
        if plain in NESTED:
            yield from (f"{name}{below}" for below in NESTED[plain])
        elif plain.startswith(("dict", "list_of_any_key_specs")):
            for keys in said if isinstance(said, list) else [said]:
                for key, spec in (keys or {}).items() if isinstance(keys, dict) else ():
                    inner = {"validate": {each: value for each, value in spec.items() if each.startswith("type:")}}
                    yield from references_in(f"{name}{'[]' if isinstance(said, list) else ''}.{key}", inner)
        elif plain not in PLAIN_TYPES:
            yield name


def test_every_attribute_of_neutron():
    unknown = []
    for collection, attributes in upstream()["neutron"].items():
        there = known(table.NETWORKING.get(collection, ()))
        for name, attribute in attributes.items():
            for path in references_in(name, attribute):
                last = path.rpartition(".")[2]
                if path not in there and f"{path}[]" not in there and last not in {*PLAIN_OF_NEUTRON, *table.IDENTITY_FIELDS}:
                    unknown.append(f"{collection}: {path}")
    assert sorted(unknown) == []


def test_every_action_of_neutron():
    known_actions = {name.rpartition("/")[2] for name in table.NETWORKING} | PLAIN_ACTIONS
    assert {action for actions in upstream()["actions"].values() for action in actions} - known_actions == set()


def test_every_property_of_glance():
    assert set(upstream()["glance"]) - PLAIN_OF_GLANCE - {field.path.removesuffix("[]") for field in table.IMAGES["images"]} == set()


@pytest.mark.parametrize("collection", sorted(network.COPIED))
def test_every_attribute_of_what_is_brought_is_copied_or_judged(collection: str):
    """Account for each field of a resource that is brought: it is copied, is a reference, or belongs to the site."""
    judged = {path.partition(".")[0].removesuffix("[]") for path in known(table.NETWORKING[collection])}
    left = set(upstream()["neutron"][collection]) - set(network.COPIED[collection]) - judged - network.OWN[collection].keys()
    assert left == set()
