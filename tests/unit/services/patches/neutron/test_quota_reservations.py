"""Reservations of quota in memory, in Neutron's real API over a database of its own."""

import pytest
from neutron_api import CONFIGURATION, EXTENSIONS, START
from upstream import inside

QUOTA = """
[quotas]
quota_port = 3
"""

ASK = (
    START
    + """
    from concurrent.futures import ThreadPoolExecutor

    kind, = snippets
    if kind == "ours":
        from atoll.services.patches.neutron import quota_reservations
        quota_reservations.install()
    written = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        if "reservations" in statement or "resourcedeltas" in statement:
            written.append(statement)

    def ask(method, path, body=None):
        request = webob.Request.blank(path, method=method, content_type="application/json", body=json.dumps(body).encode() if body else b"")
        request.environ["neutron.context"] = context.Context(user_id="bob", project_id="p", roles=["admin", "member", "reader"])
        answer = request.get_response(api)
        return answer.status_int, answer.json if answer.body else None

    network = ask("POST", "/networks", {"network": {"name": "n"}})[1]["network"]["id"]
    ask("POST", "/subnets", {"subnet": {"network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4}})
    port = {"port": {"network_id": network}}
    failed = [ask("POST", "/ports", {"port": {"network_id": network, "fixed_ips": [{"ip_address": "192.0.2.1"}]}})[0] for _ in range(4)]
    written.clear()
    made = [ask("POST", "/ports", port) for _ in range(3)]
    count = len(written)
    over = ask("POST", "/ports", port)
    bulk = ask("POST", "/ports", {"ports": [port["port"]] * 2})[0]
    ask("DELETE", f"/ports/{made[0][1]['port']['id']}")
    ask("DELETE", f"/ports/{made[1][1]['port']['id']}")
    with ThreadPoolExecutor(6) as pool:
        raced = sorted(pool.map(lambda _: ask("POST", "/ports", port)[0], range(6)))
    from neutron import quota
    from neutron.quota import resource_registry
    admin = context.get_admin_context()
    details = quota.QUOTAS.get_driver().get_detailed_project_quotas(admin, resource_registry.get_all_resources(), "p")["port"]
    there = len(ask("GET", "/ports")[1]["ports"])
    tell({"failed": failed, "made": [status for status, _ in made], "statements": count, "over": [over[0], over[1]["NeutronError"]["type"]],
          "bulk": bulk, "raced": raced, "there": there, "details": details})
"""
)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    found = {}
    for kind in ("ours", "upstream"):
        directory = tmp_path_factory.mktemp(kind)
        text = CONFIGURATION.format(directory=directory, extensions=EXTENSIONS, plugin="revisions") + QUOTA
        (directory / "neutron.conf").write_text(text)
        found[kind] = inside(ASK, str(directory), str(directory / "neutron.conf"), kind)
    return found


def test_quota_is_kept_without_reservations_in_the_database(both):
    ours = both["ours"]
    assert ours["statements"] == 0
    assert ours["failed"] == [400] * 4, "a request that failed must give its reservation back"
    assert ours["made"] == [201] * 3
    assert ours["over"] == [409, "OverQuota"]
    assert ours["bulk"] == 409
    assert ours["there"] == 3, "of six requests at the same time, two have room"
    assert ours["raced"] == [201] * 2 + [409] * 4
    assert ours["details"] == {"limit": 3, "used": 3, "reserved": 0}
    same = ("failed", "made", "over", "bulk")  # not `raced`: upstream may exceed the limit there
    assert {name: ours[name] for name in same} == {name: both["upstream"][name] for name in same}


def test_upstream_writes_reservations(both):
    """If this fails, upstream no longer does, and the patch can go."""
    assert both["upstream"]["statements"] >= 8 * 3


EXPIRED = """
    from atoll.services.patches.neutron.quota_reservations import KEPT_S, Reservations

    now = [0.0]
    reserved = Reservations(lambda: now[0])
    first = reserved.add("p", {"port": 2, "network": 1})
    reserved.add("q", {"port": 5})
    held = dict(reserved.of("p"))
    now[0] = KEPT_S - 1
    second = reserved.add("p", {"port": 1})
    both = dict(reserved.of("p"))
    now[0] = KEPT_S + 1
    later = dict(reserved.of("p"))
    reserved.remove(second.reservation_id)
    reserved.remove(first.reservation_id)
    tell([held, both, later, dict(reserved.of("p")), first.deltas])
"""


def test_reservations_end():
    assert inside(EXPIRED) == [{"port": 2, "network": 1}, {"port": 3, "network": 1}, {"port": 1}, {}, {"port": 2, "network": 1}]
