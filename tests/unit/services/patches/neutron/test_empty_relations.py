"""Relations of Neutron's models that are mostly empty, in Neutron's real API over a database of its own."""

import pytest
from neutron_api import CONFIGURATION, EXTENSIONS
from upstream import inside

from atoll.services.patches.neutron.empty_relations import MOSTLY_EMPTY

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
        from atoll.services.patches.neutron import empty_relations
        empty_relations.install()
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

    def make(collection, resource, **fields):
        return ask("POST", f"/{collection}", {resource: fields})[resource]["id"]

    def tag(collection, identifier, *tags):
        for each in tags:
            ask("PUT", f"/{collection}/{identifier}/tags/{each}")

    read, counted = [], {}
    TOLD = ("name", "tags", "dns_nameservers", "host_routes", "service_types", "allowed_address_pairs", "extra_dhcp_opts", "hints", "cidr",
            "revision_number", "binding:vif_type", "binding:host_id", "subnets", "hardware_offload_type", "trusted", "status",
            "belongs_to_default_sg", "is_default", "stateful")

    def seen(path):
        statements.clear()
        answer = next(value for name, value in ask("GET", path).items() if not name.endswith("_links"))
        counted[path.replace(network, "N")] = len(statements)
        rows = answer if isinstance(answer, list) else [answer]
        read.append([{name: len(row[name]) if name == "subnets" else row[name] for name in TOLD if name in row} for row in rows])

    network, bare = make("networks", "network", name="a"), make("networks", "network", name="b")
    subnet = make("subnets", "subnet", name="a", network_id=network, cidr="10.0.0.0/24", ip_version=4)
    make("subnets", "subnet", name="b", network_id=bare, cidr="10.1.0.0/24", ip_version=4)
    make("ports", "port", name="first", network_id=network)
    statements.clear()
    port = make("ports", "port", name="a", network_id=network, **{"binding:host_id": "paris"})
    counted["create"] = len(statements)
    make("ports", "port", name="b", network_id=network)

    def look():
        by_name = "sort_key=name&sort_dir=asc"
        for path in (f"/networks?{by_name}", f"/networks/{network}", f"/subnets?{by_name}", f"/ports?{by_name}",
                     f"/ports?limit=2&{by_name}",
                     "/ports?tags=x", f"/networks?not-tags=x&{by_name}", f"/ports?fields=tags&{by_name}", "/security-groups",
                     "/security-group-rules?direction=ingress&ethertype=IPv4"):
            seen(path)

    look()
    bare_counts = dict(counted)
    tag("networks", network, "x", "y")
    tag("ports", port, "x")
    tag("subnets", subnet, "z")
    ask("PUT", f"/subnets/{subnet}", {"subnet": {
        "dns_nameservers": ["10.0.0.3", "10.0.0.2"], "host_routes": [{"destination": "10.9.0.0/24", "nexthop": "10.0.0.9"}]}})
    ask("PUT", f"/ports/{port}", {"port": {
        "allowed_address_pairs": [{"ip_address": "10.0.0.77", "mac_address": "fa:16:3e:00:00:01"}],
        "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400"}]}})
    look()
    ask("DELETE", f"/networks/{network}/tags/x")
    ask("DELETE", f"/ports/{port}/tags/x")
    ask("PUT", f"/subnets/{subnet}", {"subnet": {"dns_nameservers": [], "host_routes": []}})
    ask("PUT", f"/ports/{port}", {"port": {"allowed_address_pairs": [], "extra_dhcp_opts": []}})
    look()
    for each in ask("GET", "/ports")["ports"]:
        ask("DELETE", f"/ports/{each['id']}")
    for each in (network, bare):
        ask("DELETE", f"/networks/{each}")
    with engine.connect() as connection:
        left = [connection.execute(sqlalchemy.text(f"SELECT count(*) FROM {name}")).scalar()
                for name in ("tags", "networksegments", "subnets", "ports", "ml2_port_binding_levels", "dnsnameservers")]
    tell({"read": read, "counted": bare_counts, "left": left})
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    found = {}
    for kind in ("ours", "upstream"):
        directory = tmp_path_factory.mktemp(kind)
        (directory / "neutron.conf").write_text(CONFIGURATION.format(directory=directory, extensions=EXTENSIONS, plugin="revisions,tag"))
        found[kind] = inside(ASK, str(directory), str(directory / "neutron.conf"), kind)
    return found


def test_answers_are_the_same_with_fewer_statements(both):
    ours, upstream = both["ours"], both["upstream"]
    assert ours["read"] == upstream["read"]
    assert any(row.get("tags") for answer in ours["read"] for row in answer), "expected rows with tags too"
    assert ours["left"] == upstream["left"]
    assert {path: count <= upstream["counted"][path] for path, count in ours["counted"].items()} == dict.fromkeys(ours["counted"], True)
    assert ours["counted"]["/networks/N"] * 2 < upstream["counted"]["/networks/N"]


def test_upstream_loads_empty_relations(both):
    """If this fails, upstream no longer does, and the patch can go."""
    assert both["upstream"]["counted"]["create"] >= both["ours"]["counted"]["create"] + 50


STRATEGY = """
    from importlib import import_module
    import sqlalchemy as sa
    from sqlalchemy import event, orm
    from atoll.services.patches.neutron import empty_relations

    Base = orm.declarative_base()

    class Parent(Base):
        __tablename__ = "parents"
        id = sa.Column(sa.Integer, primary_key=True)
        name = sa.Column(sa.String)
        others = orm.relationship("Other", lazy="joined")
        indexed = orm.relationship("Indexed", lazy=empty_relations.LAZY, cascade="all, delete-orphan")
        plain = orm.relationship("Plain", lazy=empty_relations.LAZY, order_by="Plain.id")
        one = orm.relationship("One", lazy=empty_relations.LAZY, uselist=False)

    def child(name, **more):
        return type(name, (Base,), {
            "__tablename__": name.lower(), "id": sa.Column(sa.Integer, primary_key=True),
            "parent_id": sa.Column(sa.ForeignKey("parents.id"), **more)})

    Other, Indexed, Plain, One = child("Other"), child("Indexed", index=True), child("Plain"), child("One")
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    statements = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement))
    with orm.Session(engine) as session:
        session.add_all([Parent(id=n, name=f"p{n}") for n in range(1, 5)])
        session.add_all([Indexed(parent_id=2), Indexed(parent_id=2), Plain(id=7, parent_id=3), Plain(id=6, parent_id=3), Plain()])
        session.add_all([Other(parent_id=2), Other(parent_id=2), One(parent_id=4)])
        session.commit()

    def loaded(query, **options):
        with orm.Session(engine, **options) as session:
            statements.clear()
            rows = query(session)
            count = len(statements)
            told = [[row.id, len(row.indexed), [each.id for each in row.plain], row.one is not None] for row in rows]
            assert len(statements) == count, "expected all relations to be loaded"
            return [count, told]

    first = lambda session: session.query(Parent).filter_by(id=1).all()
    found = {
        "empty": loaded(first),
        "all": loaded(lambda session: session.query(Parent).order_by(Parent.id).all()),
        "limited": loaded(lambda session: session.query(Parent).order_by(Parent.id).limit(2).all()),
        "aliased": loaded(lambda session: [row for row in session.query(orm.aliased(Parent)).filter_by(id=2)]),
        "twice": loaded(lambda session: first(session) and session.query(Parent).filter_by(id=1).all()),
    }
    with orm.Session(engine) as session:
        [row] = session.query(Parent).filter_by(id=1)
        row.indexed.append(Indexed())
        session.flush()
        [again] = session.query(Parent).filter_by(id=1).populate_existing()
        found["written"] = [again is row, len(again.indexed)]
        session.expire(row)
        found["expired"] = [row.name, len(row.indexed), row.plain]
        session.refresh(row)
        found["refreshed"] = [row.name, len(row.indexed), row.plain]
        row.indexed.clear()
        session.commit()
        found["cleared"] = [row.indexed, session.query(Parent).count(), session.query(Indexed).count(),
                            len(session.query(Parent.id).filter(Parent.id.in_(session.query(Parent.id))).all())]
    tell(found)
"""


def test_strategy_loads_only_what_is_there():
    found = inside(STRATEGY)
    assert found["empty"] == [1, [[1, 0, [], False]]]
    assert found["all"] == [4, [[1, 0, [], False], [2, 2, [], False], [3, 0, [6, 7], False], [4, 0, [], True]]]
    assert found["limited"] == [2, [[1, 0, [], False], [2, 2, [], False]]]
    assert found["aliased"] == [2, [[2, 2, [], False]]]
    assert found["twice"] == [2, [[1, 0, [], False]]]
    assert found["written"] == [True, 1]
    assert found["expired"] == found["refreshed"] == ["p1", 1, []]
    assert found["cleared"] == [[], 4, 2, 4]


RELATIONS = """
    from importlib import import_module
    from sqlalchemy.orm import class_mapper
    from neutron.db.migration.models import head
    from atoll.services.patches.neutron import empty_relations

    def relations():
        for path, keys in empty_relations.MOSTLY_EMPTY.items():
            module, _, name = path.partition(":")
            for key in keys:
                relation = class_mapper(getattr(import_module(module), name)).get_property(key)
                yield f"{name}.{key}", [relation.lazy, type(relation.strategy).__name__]

    before = dict(relations())
    empty_relations.install()
    tell([before, dict(relations())])
"""


def test_every_relation_is_one_that_upstream_loads_by_statements_of_its_own():
    before, after = inside(RELATIONS)
    assert len(before) == sum(map(len, MOSTLY_EMPTY.values()))
    assert {lazy for lazy, _ in before.values()} <= {"select", "selectin", "subquery"}
    assert {name: lazy for name, (lazy, _) in after.items()} == {name: lazy for name, (lazy, _) in before.items()}, (
        "neutron_lib.db.api reads `lazy`"
    )
    assert {strategy for _, strategy in after.values()} == {"IfAnyLoader"}
