"""A security group whose dropped packets are logged, with upstream's real client of OVN."""

from upstream import inside

LOGGED = """
    from types import SimpleNamespace
    from unittest import mock
    from oslo_config import cfg
    from neutron.common import config
    config.register_common_config_options()
    cfg.CONF([], project="neutron", default_config_files=[])
    from neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb import ovn_client
    from atoll.services.patches.neutron import logged_groups
    if sys.argv[1] == "ours":
        logged_groups.install()
    rules = [{"neutron:security_group_rule_id": "rule"}, {}]  # the second is what a log of dropped packets adds
    client = mock.MagicMock()
    client._nb_idl.pg_get.return_value.execute.return_value = SimpleNamespace(acls=[SimpleNamespace(external_ids=ids) for ids in rules])
    with mock.patch.object(ovn_client, "db_rev") as revisions:
        try:
            ovn_client.OVNClient.delete_security_group(client, "context", "1a2b-3c", delete_sg_rules=True)
        except KeyError:
            tell("KeyError")
            sys.exit()
    tell([client._nb_idl.pg_del.call_args.kwargs, [list(call.args[1:2]) for call in revisions.method_calls]])
"""


def test_group_whose_packets_are_logged_can_be_deleted():
    deleted, forgotten = inside(LOGGED, "ours")
    assert deleted == {"name": "pg_1a2b_3c", "if_exists": True}
    assert forgotten == [["1a2b-3c"], [["rule"]]]


def test_upstream_fails_on_rules_of_a_log():
    """If this fails, patches/neutron/logged_groups.py can go."""
    assert inside(LOGGED, "upstream") == "KeyError"
