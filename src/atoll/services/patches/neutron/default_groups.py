"""Security groups `default` with the same id and the same first rules at all sites.

Each Neutron creates a project's group by itself, so each site would have another group: an id from a list could be used at one site alone,
and a rule added to one group would be missing in the others. A callback of Neutron sets the group's id before it is created. No caller of
`SecurityGroupDbMixin._create_rules_from_template` (neutron/db/securitygroups_db.py) can set the rules' ids: for groups `default`, it is
replaced by the same loop with ids that are computed from the rules' contents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from neutron.db.securitygroups_db import SecurityGroupDbMixin
from neutron.extensions import security_groups_default_rules
from neutron.objects import securitygroup
from neutron_lib.callbacks import events, registry, resources

from atoll.identifiers import default_group, default_rule

_OF_TEMPLATE = ("standard_attr_id", "description", "used_in_default_sg", "used_in_non_default_sg", "id")
"""Fields of a template that do not belong to the rule."""


def give_id(_resource: str, _event: str, _trigger: Any, payload: Any) -> None:
    """Set the id of a group `default`; Neutron calls this before it creates a security group."""
    if payload.metadata.get("is_default"):
        payload.desired_state["id"] = default_group(payload.desired_state["project_id"])


def with_ids(upstream: Callable[..., None]) -> Callable[..., None]:
    """Wrap `SecurityGroupDbMixin._create_rules_from_template` with ids that all sites compute alike.

    Args:
        upstream: upstream's method.
    """

    @wraps(upstream)
    def create_rules(self: Any, context: Any, project_id: str, sg: Any, default_sg: bool) -> None:
        if not default_sg:
            upstream(self, context, project_id, sg, default_sg)
            return
        for template in self.get_default_security_group_rules(context, filters={"used_in_default_sg": True}):
            values = {name: value for name, value in template.items() if name not in _OF_TEMPLATE}
            if values.get("remote_group_id") == security_groups_default_rules.PARENT_SG:
                values["remote_group_id"] = sg.id
            made = securitygroup.SecurityGroupRule(
                context, id=default_rule(sg.id, _text(values)), project_id=project_id, security_group_id=sg.id, **values
            )
            made.create()
            sg.rules.append(made)
        sg.obj_reset_changes(["rules"])

    return create_rules


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps({name: str(value) for name, value in values.items() if value is not None}, sort_keys=True)


def install() -> None:
    """Have Neutron create groups `default` with computed ids, in this process."""
    SecurityGroupDbMixin._create_rules_from_template = with_ids(SecurityGroupDbMixin._create_rules_from_template)
    registry.subscribe(give_id, resources.SECURITY_GROUP, events.BEFORE_CREATE)
