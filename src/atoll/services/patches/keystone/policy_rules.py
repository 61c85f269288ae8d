"""Keystone's policy rules loaded before the first request.

Keystone loads its rules in the first request (`RBACEnforcer.enforce_call`). Concurrent requests see only a part of them, and
are refused. Here the rules are loaded at the start. As in a request, no warning is logged about deprecated rules.
"""

from __future__ import annotations


def install() -> None:
    """Load all rules; Keystone's configuration must have been read."""
    from keystone.common.rbac_enforcer import enforcer

    enforcer.RBACEnforcer.suppress_deprecation_warnings = True
    enforcer.RBACEnforcer()._enforcer.load_rules()
