"""Deletion of security groups whose dropped packets are logged.

Neutron's log plug-in gives such a group ACLs that belong to no rule (`_create_sg_drop_acls` in
neutron/services/logapi/drivers/ovn/driver.py). `OVNClient.delete_security_group` reads the rule of each ACL, and fails with a KeyError
that reaches no caller: the group is gone from Neutron, and its port group and ACLs stay in OVN. The replacement skips ACLs without a rule.
"""

from __future__ import annotations

from typing import Any

from neutron.common.ovn import constants, utils
from neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb import ovn_client


def delete_security_group(self: Any, context: Any, security_group_id: str, delete_sg_rules: bool = False) -> None:
    """Delete a security group's port group, and with it its ACLs."""
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
    """Replace upstream's method, in this process."""
    ovn_client.OVNClient.delete_security_group = delete_security_group
