"""No console token in the request log, against upstream's real one: it fails when that says it in another way."""

import logging

from upstream import inside

from atoll.services import console_log

TOKEN = "11111111-2222-3333-4444-555555555555"

LOG = f"""
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import logging
    import webob
    from nova.api.openstack import requestlog, wsgi
    from atoll.services import console_log

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
    assert TOKEN in found["before"][0], "upstream logs no token any more: services/console_log.py can go"
    assert [len(each) for each in found.values()] == [1, 1, 1, 1]
    assert TOKEN not in found["after"][0]
    assert '"GET /v2.1/os-console-auth-tokens/***" status: 200' in found["after"][0]
    assert '/os-console-auth-tokens/***?a=b" status' in found["query"][0]
    assert TOKEN in found["other"][0]


def test_what_is_no_request_passes():
    for arguments in ((), ("x",), ({"REQUEST_URI": 1},), ({},)):
        assert console_log.mask(logging.LogRecord("n", 20, "p", 1, "m", arguments, None))
