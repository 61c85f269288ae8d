"""The relation of a subnet to the revision of its network, in Neutron's real API over a database of its own."""

import pytest
from neutron_api import CONFIGURATION, EXTENSIONS
from upstream import inside

ASK = """
    directory, settings, kind = sys.argv[1:]
    import uuid
    import sqlalchemy
    import webob
    from atoll.services import base
    base.preload()
    base.allow_eventlet()
    from neutron.common import config
    from neutron.db.migration.models import head
    from neutron_lib import context

    config.register_common_config_options()
    config.init([], default_config_files=[settings])
    metadata = head.get_metadata()
    if kind == "ours":
        from atoll.services.patches.neutron import subnet_revisions
        subnet_revisions.install()
    engine = sqlalchemy.create_engine(f"sqlite:///{directory}/neutron.db?plugin=atoll")
    metadata.create_all(engine)
    engine.dispose()
    from neutron.pecan_wsgi import app
    api = app.v2_factory({})
    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    def ask(method, path, body=None):
        request = webob.Request.blank(path, method=method, content_type="application/json", body=json.dumps(body).encode() if body else b"")
        request.environ["neutron.context"] = context.Context(user_id="root", project_id="p", roles=["admin", "member", "reader"])
        answer = request.get_response(api)
        assert answer.status_int < 300, answer.text
        return answer.json if answer.body else None

    network = ask("POST", "/networks", {"network": {"name": "n"}})["network"]["id"]
    subnet = ask("POST", "/subnets", {"subnet": {"network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4}})["subnet"]["id"]
    ask("POST", "/ports", {"port": {"network_id": network}})
    statements.clear()
    port = ask("POST", "/ports", {"port": {"network_id": network}})["port"]
    counted = len(statements)
    unread = [each for each in statements if "FROM subnets AS subnets_1 JOIN networks" in each]
    before = ask("GET", f"/networks/{network}")["network"]["revision_number"]
    changed = ask("PUT", f"/subnets/{subnet}", {"subnet": {"name": "s"}})["subnet"]["name"]
    after = ask("GET", f"/networks/{network}")["network"]["revision_number"]
    ask("DELETE", f"/ports/{port['id']}")
    [listed] = ask("GET", f"/subnets?id={subnet}")["subnets"]
    grown = ask("PUT", f"/subnets/{subnet}", {"subnet": {"dns_nameservers": ["10.0.0.2"]}})["subnet"]["dns_nameservers"]
    later = ask("GET", f"/networks/{network}")["network"]["revision_number"]
    for each in ask("GET", "/ports")["ports"]:
        ask("DELETE", f"/ports/{each['id']}")
    ask("DELETE", f"/networks/{network}")
    with engine.connect() as connection:
        left = [connection.execute(sqlalchemy.text(f"SELECT count(*) FROM {name}")).scalar() for name in ("networksegments", "subnets")]
    tell({
        "statements": counted, "unread": len(unread), "grown": [after - before, later - after], "changed": changed,
        "listed": sorted(listed), "left": left, "servers": grown,
    })
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    found = {}
    for kind in ("ours", "upstream"):
        directory = tmp_path_factory.mktemp(kind)
        (directory / "neutron.conf").write_text(CONFIGURATION.format(directory=directory, extensions=EXTENSIONS, plugin="revisions"))
        found[kind] = inside(ASK, str(directory), str(directory / "neutron.conf"), kind)
    return found


def test_what_nothing_reads_is_not_loaded_and_all_else_is_the_same(both):
    ours, upstream = both["ours"], both["upstream"]
    assert ours["unread"] == 0
    assert ours["statements"] <= upstream["statements"] - upstream["unread"]
    same = ("grown", "changed", "listed", "left", "servers")
    assert {name: ours[name] for name in same} == {name: upstream[name] for name in same}
    assert ours["grown"][0] >= 1, "a change of a subnet is a new revision of its network"
    assert ours["left"] == [0, 0]


def test_upstream_loads_it_with_each_subnet(both):
    """If this fails, upstream no longer does, and the patch can go."""
    assert both["upstream"]["unread"] >= 3
