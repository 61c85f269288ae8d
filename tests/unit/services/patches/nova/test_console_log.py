"""Console tokens in the request log, with upstream's real one; the test fails if the log's format changes."""

import logging

from upstream import inside

from atoll.services.patches.nova import console_log

TOKEN = "11111111-2222-3333-4444-555555555555"

LOG = f"""
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import logging
    import webob
    from nova.api.openstack import requestlog, wsgi
    from atoll.services.patches.nova import console_log

    lines = []
    class Kept(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())
    logging.getLogger().addHandler(Kept())
    logging.getLogger().setLevel(logging.INFO)

    def ask(path):
        del lines[:]
        application = requestlog.RequestLog(webob.Response())
        wsgi.Request.blank(path).get_response(application)
        return list(lines)

    path = "/v2.1/os-console-auth-tokens/{TOKEN}"
    before = ask(path)
    console_log.install()
    tell({{"before": before, "after": ask(path), "query": ask(path + "?a=b"), "other": ask("/v2.1/servers/{TOKEN}")}})
"""


def test_the_real_log():
    found = inside(LOG)
    assert TOKEN in found["before"][0], "upstream no longer logs tokens: remove services/patches/nova/console_log.py"
    assert [len(each) for each in found.values()] == [1, 1, 1, 1]
    assert TOKEN not in found["after"][0]
    assert '"GET /v2.1/os-console-auth-tokens/***" status: 200' in found["after"][0]
    assert '/os-console-auth-tokens/***?a=b" status' in found["query"][0]
    assert TOKEN in found["other"][0]


def test_log_lines_that_are_not_requests_pass_unchanged():
    for arguments in ((), ("x",), ({"REQUEST_URI": 1},), ({},)):
        assert console_log.mask(logging.LogRecord("n", 20, "p", 1, "m", arguments, None))
