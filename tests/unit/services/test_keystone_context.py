"""What services/keystone_context.py replaces of upstream."""

from upstream import check, inside


def test_middleware_is_the_one_we_make_safe():
    path = "keystone/server/flask/request_processing/middleware/auth_context.py"
    known = {
        (path, "AuthContextMiddleware.__init__"): "07a07fff",
        (path, "AuthContextMiddleware.fetch_token"): "357d450b",
        (path, "AuthContextMiddleware.fill_context"): "5fe00693",
        (path, "AuthContextMiddleware.process_request"): "00291f9a",
    }
    check("keystone", known, "services/keystone_context.py keeps each thread's token apart")


def test_each_thread_has_its_own_token_and_starts_without_one():
    found = inside(
        """
        import threading
        from types import SimpleNamespace
        from keystone.server.flask.request_processing.middleware import auth_context
        from keystone.server.flask import core
        from atoll.services import keystone_context

        auth_context.AuthContextMiddleware.process_request = lambda self, request: self.token
        keystone_context.install()
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
        tell([type(middleware).__name__, seen, mine, keystone_context.ASKED.get()])
        """
    )
    assert found == ["ThreadedAuthContextMiddleware", [None, None], "mine", "GET /v3/users"]
