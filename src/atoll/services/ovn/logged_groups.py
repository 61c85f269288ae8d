"""A security group whose packets are logged can be deleted.

For packets that are dropped, Neutron's log plug-in gives such a group ACLs that belong to no rule (`_create_sg_drop_acls` in
neutron/services/logapi/drivers/ovn/driver.py). `OVNClient.delete_security_group` asks each ACL which rule it is of, and ended there with a
KeyError that nobody was told of: the group was gone from Neutron, and its port group and ACLs stayed in OVN. Replaced by one that passes
over what is of no rule.
"""

from __future__ import annotations

from typing import Any

from neutron.common.ovn import constants, utils
from neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb import ovn_client


def delete_security_group(self: Any, context: Any, security_group_id: str, delete_sg_rules: bool = False) -> None:
    """Delete a group's port group, and with it its ACLs."""
    name = utils.ovn_port_group_name(security_group_id)
    group = self._nb_idl.pg_get(name).execute(check_error=True)
    key = constants.OVN_SG_RULE_EXT_ID_KEY
    rules = [acl.external_ids[key] for acl in group.acls if key in acl.external_ids]
    with self._nb_idl.transaction(check_error=True) as transaction:
        transaction.add(self._nb_idl.pg_del(name=name, if_exists=True))
    ovn_client.db_rev.delete_revision(context, security_group_id, constants.TYPE_SECURITY_GROUPS)
    if delete_sg_rules:
        ovn_client.db_rev.delete_revisions(context, rules, constants.TYPE_SECURITY_GROUP_RULES)


def install() -> None:
    """Replace upstream's."""
    ovn_client.OVNClient.delete_security_group = delete_security_group
