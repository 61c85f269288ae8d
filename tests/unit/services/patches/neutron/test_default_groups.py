"""The security groups `default` of projects, in Neutron's real API over a database of its own, with and without the patch."""

import json
from pathlib import Path

from neutron_api import API, CONFIGURATION, EXTENSIONS
from upstream import inside

from atoll.identifiers import default_group, default_rule

ASK = (
    API.partition("    network = create(")[0]
    + """
    from neutron.db.securitygroups_db import SecurityGroupDbMixin
    from neutron_lib.plugins import directory as plugins
    from atoll.services.patches.neutron import default_groups
    from atoll.services.neutron import service as ours

    if IDS:
        default_groups.install()
    # The templates of rules come from a migration.
    ours._fill_default_rules(sqlalchemy.create_engine(f"sqlite:///{directory}/neutron.db?plugin=atoll"), head.get_metadata())
    plugin = plugins.get_plugin()
    group, again = (plugin.get_security_groups(who["member"], filters={"name": ["default"]})[0] for _ in range(2))
    other = ask("member", "/security-groups", {"security_group": {"name": "web"}})[1]["security_group"]
    rules = sorted(rule["id"] for rule in group["security_group_rules"])
    ingress = [rule["remote_group_id"] for rule in group["security_group_rules"] if rule["direction"] == "ingress"]
    tell([group["id"], rules, ingress, again["id"], len(other["security_group_rules"]), group["revision_number"]])
"""
)


def made(directory: Path, *, ids: bool) -> list:
    directory.mkdir()
    settings = directory / "neutron.conf"
    settings.write_text(CONFIGURATION.format(plugin="given-id", extensions=EXTENSIONS, directory=directory))
    return inside(ASK.replace("IDS", str(ids)), str(directory), str(settings))


GROUP = default_group("ours")
RULES = sorted(
    default_rule(GROUP, json.dumps({"direction": direction, "ethertype": f"IPv{version}", **remote}))
    for direction, remote in (("egress", {}), ("ingress", {"remote_group_id": GROUP}))
    for version in (4, 6)
)
"""The rules of a group, as long as upstream's templates do not change."""


def test_group_and_rules_have_ids_that_all_sites_compute_alike(tmp_path):
    group, rules, ingress, again, others, revision = made(tmp_path / "site", ids=True)
    assert group == again == GROUP
    assert rules == RULES
    assert ingress == [group, group]
    assert others == 2, "other groups must get random ids"
    assert revision <= 1, "the revision number must show that the group is new"


def test_upstream_still_needs_it(tmp_path):
    group, rules, *_rest = made(tmp_path / "site", ids=False)
    assert group != GROUP
    assert not set(rules) & set(RULES)
