"""Pushes of changed objects to agents, in Neutron's real API over a database of its own."""

from neutron_api import CONFIGURATION, EXTENSIONS, START
from upstream import inside

BEFORE = "    from neutron.pecan_wsgi import app\n"

ASK = (
    START.replace(
        BEFORE,
        """
    pushed = []
    from neutron.api.rpc.handlers import resources_rpc
    resources_rpc.ResourcesPushRpcApi.push = lambda _self, _context, objects, event: pushed.append([type(objects[0]).__name__, event])
    kind, = snippets
    if kind == "ours":
        from atoll.services.patches.neutron import object_pushes
        object_pushes.install()
"""
        + BEFORE,
    )
    + """
    def ask(method, path, body=None):
        request = webob.Request.blank(path, method=method, content_type="application/json", body=json.dumps(body).encode() if body else b"")
        request.environ["neutron.context"] = context.Context(user_id="bob", project_id="p", roles=["member", "reader"])
        answer = request.get_response(api)
        assert answer.status_int < 300, answer.text
        return answer.json if answer.body else None

    network = ask("POST", "/networks", {"network": {"name": "n"}})["network"]["id"]
    ask("POST", "/subnets", {"subnet": {"network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4}})
    port = ask("POST", "/ports", {"port": {"network_id": network}})["port"]["id"]
    ask("PUT", f"/ports/{port}", {"port": {"name": "p"}})
    ask("DELETE", f"/ports/{port}")
    tell(pushed)
"""
)


def _pushed(directory, kind):
    (directory / "neutron.conf").write_text(CONFIGURATION.format(directory=directory, extensions=EXTENSIONS, plugin="revisions"))
    return inside(ASK, str(directory), str(directory / "neutron.conf"), kind)


def test_nothing_is_pushed(tmp_path):
    assert _pushed(tmp_path, "ours") == []


def test_upstream_pushes_every_change(tmp_path):
    """If this fails, upstream no longer does, and the patch can go."""
    pushed = _pushed(tmp_path, "upstream")
    assert ["Port", "updated"] in pushed
    assert ["Port", "deleted"] in pushed
