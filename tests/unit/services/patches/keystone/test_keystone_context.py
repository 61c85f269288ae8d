"""Keystone's authentication middleware in several threads."""

from upstream import inside


def test_each_thread_has_its_own_token_and_starts_without_one():
    found = inside(
        """
        import threading
        from types import SimpleNamespace
        from keystone.server.flask.request_processing.middleware import auth_context
        from keystone.server.flask import core
        from atoll.services.patches.keystone import request_context

        auth_context.AuthContextMiddleware.process_request = lambda self, request: self.token
        request_context.install()
        middleware = core._KEYSTONE_MIDDLEWARE[-1](None)
        request = SimpleNamespace(method="GET", path="/v3/users")
        seen = []
        def other():
            seen.append(middleware.token)
            middleware.token = "the other's"
            seen.append(middleware.process_request(request))
            middleware.token = "the other's"
        middleware.token = "mine"
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        mine = middleware.token
        middleware.process_request(request)
        tell([type(middleware).__name__, seen, mine, request_context.ASKED.get()])
        """
    )
    assert found == ["ThreadedAuthContextMiddleware", [None, None], "mine", "GET /v3/users"]


def test_upstream_shares_a_token_between_threads():
    """If this fails, patches/keystone/request_context.py can go."""
    found = inside(
        """
        import threading
        from keystone.server.flask.request_processing.middleware import auth_context

        middleware = auth_context.AuthContextMiddleware(None)
        middleware.token = "mine"
        thread = threading.Thread(target=lambda: setattr(middleware, "token", "the other's"))
        thread.start()
        thread.join()
        tell(middleware.token)
        """
    )
    assert found == "the other's"
