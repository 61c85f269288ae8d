"""The schema of an image, which clients of Glance share: in Glance's real client over a double of Glance."""

import pytest
from upstream import inside

CLIENT = """
    import nova.conf
    from nova.image import glance
    from nova import config, context
    from keystoneauth1 import session, token_endpoint
    import requests
    from requests.adapters import BaseAdapter
    from atoll.services.patches.nova import image_schema

    config.parse_args(["nova"], default_config_files=[], init_rpc=False)
    IMAGE = {"id": "11111111-0000-0000-0000-000000000000", "name": "i", "status": "active", "visibility": "public",
             "min_disk": 1, "hw_disk_bus": "virtio"}
    SCHEMA = {"name": "image", "properties": {"id": {"type": "string"}, "status": {"type": "string"}, "min_disk": {"type": "integer"}},
              "additionalProperties": {"type": "string"}}
    calls = []

    class Glance(BaseAdapter):
        def send(self, request, **_more):
            calls.append(request.url)
            answer = requests.Response()
            answer.status_code, answer.request, answer.url = 200, request, request.url
            answer.headers["Content-Type"] = "application/json"
            body = SCHEMA if "schemas" in request.url else IMAGE
            answer.raw = __import__("io").BytesIO(json.dumps(body).encode())
            return answer
        def close(self):
            pass

    wire = requests.Session()
    wire.mount("http://", Glance())
    servers = iter(())
    glance._session_and_auth = lambda context: (session.Session(session=wire), token_endpoint.Token(None, "t"))
    glance.get_api_servers = lambda context: servers

    def asked(*endpoints):
        global servers
        servers = iter(endpoints)
        calls.clear()
        api = glance.GlanceImageServiceV2()
        shown = [api.show(context.RequestContext(user_id="u", project_id="p", is_admin=True), IMAGE["id"]) for _ in endpoints]
        return {"shown": shown, "schemas": sum("schemas" in url for url in calls), "calls": len(calls)}

    upstream = asked("http://a", "http://a")
    image_schema.install()
    tell([upstream, asked("http://a", "http://a"), asked("http://a", "http://b", "http://b")])
"""


@pytest.fixture(scope="module")
def found():
    return inside(CLIENT)


def test_a_schema_is_asked_for_once_for_each_endpoint(found):
    upstream, ours, elsewhere = found
    assert ours["schemas"] == 1
    assert elsewhere["schemas"] == 1, "expected one request for the schema of the new endpoint"
    assert ours["shown"] == upstream["shown"]


def test_still_needed(found):
    """Stock clients ask each time; when they do not, the patch can go."""
    upstream, *_ = found
    assert (upstream["schemas"], upstream["calls"]) == (2, 4)
