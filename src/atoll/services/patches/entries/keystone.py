"""Registry entries of Keystone's patches."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind, fingerprints_in

_TESTS = f"{UNIT}patches/keystone/"
_MODULE = "atoll.services.patches.keystone."

PATCHES = (
    Patch(
        "keystone-bounds",
        "keystone",
        PatchKind.REPLACEMENT,
        ("keystone.server.flask.core._KEYSTONE_MIDDLEWARE",),
        "Every site stores what users make any Keystone store, and upstream bounds little more than the size of a request.",
        f"{_MODULE}bounds",
        f"{_TESTS}test_keystone_bounds.py::test_requests_beyond_the_bounds_are_refused_in_one_line",
        f"{_TESTS}test_keystone_bounds.py::test_upstream_still_takes_anything_in_a_trust",
    ),
    Patch(
        "keystone-request-context",
        "keystone",
        PatchKind.SUBCLASS,
        (
            "keystone.server.flask.request_processing.middleware.auth_context.AuthContextMiddleware",
            "keystone.server.flask.core._KEYSTONE_MIDDLEWARE",
        ),
        "The authentication middleware keeps the token of a request in an attribute that all threads share.",
        f"{_MODULE}request_context",
        f"{_TESTS}test_keystone_context.py::test_each_thread_has_its_own_token_and_starts_without_one",
        f"{_TESTS}test_keystone_context.py::test_upstream_shares_a_token_between_threads",
        sources=fingerprints_in(
            "keystone/server/flask/request_processing/middleware/auth_context.py:AuthContextMiddleware.",
            {
                "__init__": "07a07fff",
                "fetch_token": "357d450b",
                "fill_context": "5fe00693",
                "process_request": "00291f9a",
            },
        ),
    ),
    Patch(
        "keystone-tokens",
        "keystone",
        PatchKind.SUBCLASS,
        ("keystone.token.providers.jws.core.JWSFormatter",),
        "A token of a site whose clock is ahead is answered with status 500, and keys of other sites come and go.",
        f"{_MODULE}tokens",
        f"{_TESTS}test_keystone_tokens.py::test_tokens_of_all_sites_are_taken_whatever_their_clocks_say",
        f"{_TESTS}test_keystone_tokens.py::test_upstream_still_needs_it",
        sources={
            "keystone/token/providers/jws/core.py:JWSFormatter._decode_token_from_id": "faa523ef",
            "keystone/token/providers/jws/core.py:JWSFormatter.public_keys": "41504569",
            "keystone/token/providers/jws/core.py:JWSFormatter.validate_token": "57eea213",
            "keystone/token/providers/jws/core.py:Provider.__init__": "08dd1851",
        },
    ),
    Patch(
        "keystone-catalogue",
        "keystone",
        PatchKind.WRAPPER,
        ("keystone.catalog.backends.sql.Catalog.get_v3_catalog",),
        "Sites that share a Keystone database have endpoints of their own in one region, and each must show its own alone.",
        f"{_MODULE}catalogue",
        f"{_TESTS}test_keystone_catalogue.py::test_a_site_shows_its_own_endpoints_alone",
        f"{_TESTS}test_keystone_catalogue.py::test_upstream_shows_the_endpoints_of_all_sites",
        sources={"keystone/catalog/backends/sql.py:Catalog.get_v3_catalog": "8c56e358"},
    ),
    Patch(
        "keystone-clock",
        "keystone",
        PatchKind.WRAPPER,
        ("keystone.token.providers.jws.core.JWSFormatter", "keystone.revoke.core.Manager.revoke", "oslo_utils.timeutils.utcnow"),
        "After a clock that was ahead is set right, new passwords are not accepted and tokens that were issued cannot be revoked.",
        f"{_MODULE}clock",
        f"{_TESTS}test_keystone_clock.py::test_tokens_of_a_clock_that_was_ahead_are_revoked",
        f"{_TESTS}test_keystone_clock.py::test_upstream_does_not_revoke_tokens_of_a_clock_that_was_ahead",
        sources={
            "keystone/revoke/core.py:Manager.revoke": "8759a0ca",
            "keystone/token/providers/jws/core.py:JWSFormatter.create_token": "ecd7cdb5",
            "keystone/revoke/backends/sql.py:Revoke._list_token_events": "46ca3a9e",
            "oslo_utils/timeutils.py:utcnow": "833fa6a9",
            "oslo_utils/timeutils.py:utcnow_ts": "aad6cfea",
        },
    ),
    Patch(
        "keystone-password-order",
        "keystone",
        PatchKind.EVENT,
        ("keystone.identity.backends.sql_model.LocalUser.passwords",),
        "Keystone accepts a user's latest password by date, so a password that is made after the clock was set back is not accepted.",
        f"{_MODULE}clock",
        f"{UNIT}keystone/test_keystone_api.py::test_records_made_while_the_clock_was_ahead_can_be_changed_and_revoked",
        unprovable="SQLAlchemy's events are its extension point; the fingerprint covers Keystone's order of passwords by date.",
        sources={"keystone/identity/backends/sql_model.py:Password.created_at": "bba877c2"},
    ),
    Patch(
        "keystone-trust",
        "keystone",
        PatchKind.WRAPPER,
        ("keystone.token.provider.Manager.validate_token", "keystone.server.flask.core._KEYSTONE_MIDDLEWARE"),
        "Administrators' tokens of sites with limited trust count at their own site alone, and each use of another site's is logged.",
        f"{_MODULE}trust",
        f"{_TESTS}test_keystone_trust.py::test_an_administrators_token_of_a_limited_site_is_valid_at_that_site_alone",
        unprovable="Trust between sites is Atoll's: upstream has no notion of it.",
        sources={
            "keystone/token/provider.py:Manager.validate_token": "c5b270bb",
            "keystone/models/token_model.py:TokenModel.roles": "854d8610",
        },
    ),
    Patch(
        "keystone-policy-rules",
        "keystone",
        PatchKind.CONSTANT,
        ("keystone.common.rbac_enforcer.enforcer.RBACEnforcer.suppress_deprecation_warnings",),
        "Keystone loads its policy rules in the first request, and requests at the same time are judged by half of them.",
        f"{_MODULE}policy_rules",
        f"{_TESTS}test_policy_rules.py::test_rules_are_loaded_before_the_first_request",
        f"{_TESTS}test_policy_rules.py::test_upstream_loads_no_rules_before_the_first_request",
    ),
)
