"""Registry entries of the patches of libraries that several services use."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind

_TESTS = f"{UNIT}patches/shared/"
_MODULE = "atoll.services.patches.shared."

PATCHES = (
    Patch(
        "access-rules",
        "keystonemiddleware",
        PatchKind.WRAPPER,
        (
            "keystonemiddleware.auth_token.BaseAuthProtocol.validate_allowed_request",
            "keystonemiddleware.auth_token._path_matches",
        ),
        "Access rules of application credentials are compared with the path that the client sent, which behind the gateway has a prefix.",
        f"{_MODULE}access_rules",
        f"{_TESTS}test_access_rules.py::test_every_form_of_rule_at_every_service_behind_every_prefix",
        f"{_TESTS}test_access_rules.py::test_upstream_compares_the_path_with_its_prefix",
        sources={
            "keystonemiddleware/auth_token/__init__.py:BaseAuthProtocol.validate_allowed_request": "12f8a3d5",
            "keystonemiddleware/auth_token/__init__.py:BaseAuthProtocol.process_request": "ea754d44",
            "keystonemiddleware/auth_token/__init__.py:_path_matches": "2b55952f",
        },
    ),
    Patch(
        "token-cache",
        "keystonemiddleware",
        PatchKind.PLUGIN,
        ("keystonemiddleware.auth_token.AuthProtocol",),
        "Validated tokens are cached for all threads of a process and are forgotten when another site changes identity.",
        "atoll.services.wsgi",
        f"{UNIT}test_wsgi.py::test_token_cache_is_what_keystonemiddleware_expects",
        unprovable="The option `[keystone_authtoken] cache` is upstream's own extension point.",
    ),
    Patch(
        "wsgi-server",
        "cheroot",
        PatchKind.SUBCLASS,
        ("cheroot.wsgi.Server",),
        "The server takes a socket that is already open, and an application that closes a request's body must not close the connection.",
        "atoll.services.wsgi",
        f"{UNIT}test_wsgi.py::test_application_cannot_close_the_connection_with_the_body",
        f"{UNIT}test_wsgi.py::test_upstream_closes_the_connection_with_the_body",
    ),
    Patch(
        "slow-clients",
        "cheroot",
        PatchKind.SUBCLASS,
        ("cheroot.connections.ConnectionManager", "cheroot.server.HTTPConnection", "cheroot.makefile.StreamReader"),
        "A client that sends its request slowly holds one of the server's threads.",
        f"{_MODULE}slow_clients",
        f"{_TESTS}test_slow_clients.py::test_slow_clients_leave_threads_for_others",
        f"{_TESTS}test_slow_clients.py::test_upstream_gives_a_thread_to_a_slow_client",
    ),
    Patch(
        "process-cache",
        "oslo.cache",
        PatchKind.REPLACEMENT,
        ("oslo_cache.backends.dictionary.DictCacheBackend", "dogpile.cache.api.CacheBackend"),
        "oslo.cache's dictionary is made for tests: it has no bound, is not thread-safe, and gives every caller the same mutable object.",
        f"{_MODULE}process_cache",
        f"{_TESTS}test_process_cache.py::test_change_by_one_is_not_seen_by_others",
        f"{_TESTS}test_process_cache.py::test_upstream_shares_its_values_and_has_no_bound",
    ),
    Patch(
        "request-pacing",
        "keystoneauth1",
        PatchKind.REPLACEMENT,
        ("keystoneauth1._fair_semaphore.time",),
        "After the clock was set back, each request of an adapter waits until the clock has caught up.",
        f"{_MODULE}pacing",
        f"{_TESTS}test_pacing.py::test_no_request_waits_for_a_clock_that_was_set_back",
        f"{_TESTS}test_pacing.py::test_upstream_waits_for_the_clock",
    ),
    Patch(
        "privsep",
        "oslo.privsep",
        PatchKind.REPLACEMENT,
        ("oslo_privsep.priv_context.PrivContext.client_mode",),
        "Each library that needs privileges starts a helper process of 50 MB, though the services of a site with guests are root already.",
        f"{_MODULE}privsep",
        f"{_TESTS}test_privsep.py::test_privileged_functions_run_where_they_are_called",
        f"{_TESTS}test_privsep.py::test_upstream_would_start_a_helper",
    ),
    Patch(
        "pyroute2-signals",
        "pyroute2",
        PatchKind.CONSTANT,
        ("pyroute2.config.disable_mp_signal",),
        "The child in which pyroute2 enters a namespace ends by SIGTERM, and takes its parent's sockets out of their epoll instance.",
        f"{_MODULE}privsep",
        f"{_TESTS}test_privsep.py::test_privileged_functions_run_where_they_are_called",
        unprovable="The failure needs a process that is just starting, and leaves its parent waiting forever.",
    ),
    Patch(
        "commit-notices",
        "SQLAlchemy",
        PatchKind.EVENT,
        ("sqlalchemy.orm.Session",),
        "Keystone tells the site's gateway after each commit that identity may have changed.",
        "atoll.services.invalidation",
        f"{UNIT}test_invalidation.py::test_commits_are_told_and_rollbacks_are_not_and_nobody_needs_to_listen",
        unprovable="SQLAlchemy's events are its extension point.",
    ),
)
