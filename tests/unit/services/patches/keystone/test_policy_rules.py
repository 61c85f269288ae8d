"""Keystone's policy rules, with upstream's real enforcer."""

from upstream import inside

RULES = """
    import keystone.conf
    keystone.conf.configure()
    keystone.conf.CONF([], project="keystone", default_config_files=[])
    from keystone.common.rbac_enforcer import enforcer
    tell(len(enforcer.RBACEnforcer()._enforcer.rules))
"""


def test_rules_are_loaded_before_the_first_request():
    """Upstream exposes the enforcer to other threads before it has rules, and refuses a request that no rule allows."""
    found = inside(
        """
        from keystone.common.rbac_enforcer import enforcer
        import keystone.conf
        from atoll.services.patches.keystone import policy_rules
        keystone.conf.configure()
        keystone.conf.CONF([], project="keystone", default_config_files=[])
        before = enforcer.RBACEnforcer()._RBACEnforcer__ENFORCER is None
        policy_rules.install()
        loaded = enforcer.RBACEnforcer()._RBACEnforcer__ENFORCER
        tell([before, "identity:list_users" in loaded.rules, loaded.suppress_deprecation_warnings])
        """
    )
    assert found == [True, True, True]


def test_upstream_loads_no_rules_before_the_first_request():
    """If this fails, patches/keystone/policy_rules.py can go."""
    assert inside(RULES) == 0
