"""Keystone's policy rules loaded before the first request.

Keystone loads its rules in the first request (`RBACEnforcer.enforce_call`). Requests at the same time see half of them, and are refused.
The rules are loaded at start instead; as in a request, each deprecated rule is not warned about.
"""

from __future__ import annotations


def install() -> None:
    """Load all rules; Keystone's configuration must have been read."""
    from keystone.common.rbac_enforcer import enforcer

    enforcer.RBACEnforcer.suppress_deprecation_warnings = True
    enforcer.RBACEnforcer()._enforcer.load_rules()
