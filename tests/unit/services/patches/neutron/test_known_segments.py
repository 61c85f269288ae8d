"""Segments that the current transaction has read, in Neutron's real API over a database of its own."""

import pytest
from neutron_api import START, with_and_without

ASK = (
    START
    + """
    from neutron.db import models_v2, segments_db
    from neutron.db.models.segment import NetworkSegment
    from neutron_lib.db import api as db

    if kind == "ours":
        from atoll.services.patches.neutron import known_segments
        known_segments.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    admin = context.Context(user_id="root", project_id="p", roles=["admin", "member", "reader"], is_admin=True)

    def ask(method, path, body=None):
        request = webob.Request.blank(path, method=method, content_type="application/json", body=json.dumps(body).encode() if body else b"")
        request.environ["neutron.context"] = context.Context(user_id="root", project_id="p", roles=["admin", "member", "reader"])
        answer = request.get_response(api)
        assert answer.status_int < 300, answer.text
        return answer.json if answer.body else None

    def make(name, **more):
        return ask("POST", "/networks", {"network": {"name": name, **more}})["network"]["id"]

    GENEVE = "provider:network_type", "provider:segmentation_id"
    one = make("one", **dict(zip(GENEVE, ("geneve", 7))))
    many = make("many", segments=[dict(zip(GENEVE, ("geneve", vni))) for vni in (9, 8)])
    found = {}

    def answers(name, *ids, load=(), before=lambda: None, dynamic=False):
        with db.CONTEXT_WRITER.using(admin):
            networks = [admin.session.get(models_v2.Network, each) for each in load]
            before()
            admin.session.flush()
            statements.clear()
            told = segments_db.get_networks_segments(admin, list(ids), dynamic)
            found[name] = [[[segment["segmentation_id"] for segment in told[each]] for each in ids], len(statements)]

    def add(network, vni, **more):
        segment = {"network_type": "geneve", "physical_network": None, "segmentation_id": vni}
        segments_db.add_network_segment(admin, network, segment, **more)

    def first(network):
        return admin.session.query(NetworkSegment).filter_by(network_id=network).order_by(NetworkSegment.segment_index).first()

    def rename():
        first(one).segmentation_id = 70

    answers("held", one, load=[one])
    answers("twice", one, one, load=[one])
    answers("in order", many, one, load=[one, many])
    answers("not held", one)
    answers("one of two", one, many, load=[one])
    answers("none", load=[one])
    answers("dynamic", one, load=[one], dynamic=True)
    answers("added", one, load=[one], before=lambda: add(one, 17, segment_index=3))
    answers("added before", one, load=[one])
    answers("dynamic added", many, load=[many], before=lambda: add(many, 18, segment_index=2, is_dynamic=True))
    answers("dynamic before", many, load=[many], dynamic=True)
    answers("all", many, load=[many], dynamic=None)
    answers("static", many, load=[many])
    answers("changed", one, load=[one], before=rename)
    answers("changed before", one, load=[one])
    answers("deleted", one, load=[one], before=lambda: segments_db.delete_network_segment(admin, first(one).id))
    answers("deleted before", one, load=[one])
    bulk = lambda: admin.session.query(NetworkSegment).filter_by(network_id=many, is_dynamic=True).delete(synchronize_session=False)
    answers("deleted in bulk", many, load=[many], before=bulk, dynamic=None)
    answers("expired", one, load=[one], before=lambda: admin.session.expire_all())

    def shown(path):
        statements.clear()
        rows = ask("GET", path)
        rows = rows["networks"] if "networks" in rows else [rows["network"]]
        names = ("name", "provider:segmentation_id", "segments")
        found[path.replace(one, "one").replace(many, "many")] = [[[row.get(name) for name in names] for row in rows], len(statements)]

    shown("/networks?sort_key=name&sort_dir=asc")
    shown(f"/networks/{one}")
    shown(f"/networks/{many}")
    tell(found)
"""
)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return with_and_without(tmp_path_factory, ASK)


def test_answers_are_upstreams(both):
    ours, upstream = both["ours"], both["upstream"]
    assert {name: told for name, (told, _) in ours.items()} == {name: told for name, (told, _) in upstream.items()}
    assert ours["added"][0] == [[7, 17]]
    assert ours["in order"][0] == [[9, 8], [7]]


def test_segments_that_are_held_take_no_statement(both):
    ours = both["ours"]
    assert [ours[name][1] for name in ("held", "in order", "dynamic", "added before", "all", "static")] == [0] * 6
    assert ours["/networks/one"][1] < both["upstream"]["/networks/one"][1]


def test_segments_are_read_after_a_write_of_the_transaction(both):
    ours = both["ours"]
    for name in ("not held", "one of two", "added", "dynamic added", "changed", "deleted", "deleted in bulk", "expired"):
        assert ours[name][1] >= 1, name


def test_upstream_reads_them_again(both):
    """If this fails, upstream does not, and the patch can go."""
    assert both["upstream"]["held"][1] >= 1
