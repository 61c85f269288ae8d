"""New servers and their network information, written by Nova's real objects and database layer on SQLite."""

import pytest
from test_accepted_deletion import SERVERS
from upstream import inside

WRITES = (
    SERVERS
    + """
    import sqlalchemy
    from nova.network import model

    if sys.argv[1] == "ours":
        from atoll.services.patches.nova import row_writes
        row_writes.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(" ".join(statement.split()))

    def count(*beginnings):
        return sum(each.startswith(beginnings) for each in statements)

    flavor = server().flavor

    def create(system_metadata, uuid=None):
        made = objects.Instance(admin, uuid=uuid or uuidutils.generate_uuid(), project_id="p", user_id="u", flavor=flavor,
                                vm_state=vm_states.BUILDING, system_metadata=system_metadata, metadata={"m": "1"})
        made.create()
        return made

    def rows(uuid):
        table = models.InstanceSystemMetadata.__table__
        with api.get_context_manager(admin).reader.using(admin):
            found = admin.session.execute(table.select().where(table.c.instance_uuid == uuid)).mappings().all()
        return sorted([row["key"], row["value"], row["deleted"], row["created_at"] is not None, row["updated_at"]] for row in found)

    found = {}
    many = {f"key{number}": f"value {number}" for number in range(7)}
    statements.clear()
    made = create(many)
    found["inserts"] = count("INSERT INTO instance_system_metadata")
    found["rows"] = rows(made.uuid)
    found["object"] = [made.system_metadata, made.metadata]
    found["read"] = objects.Instance.get_by_uuid(admin, made.uuid, expected_attrs=["system_metadata", "metadata"]).system_metadata
    made.system_metadata = {"key0": "new", "more": "x"}
    made.save()
    found["changed"] = [row[:2] for row in rows(made.uuid)]
    found["none"] = rows(create({}).uuid)
    found["twice"] = attempt(lambda: create(many, made.uuid))
    found["twice, rows"] = [row[:2] for row in rows(made.uuid)]

    def cache(of):
        return objects.InstanceInfoCache.get_by_instance_uuid(admin, of.uuid)

    def information(address):
        return model.NetworkInfo([model.VIF(id="v", address=address)])

    kept = cache(made)
    kept.network_info = information("fa:16:3e:00:00:01")
    statements.clear()
    kept.save()
    found["savepoints"] = count("SAVEPOINT", "RELEASE")
    found["saved"] = [cache(made).network_info[0]["address"], kept.updated_at is not None]
    lost = create({})
    with api.get_context_manager(admin).writer.using(admin):
        admin.session.execute(models.InstanceInfoCache.__table__.delete().where(models.InstanceInfoCache.instance_uuid == lost.uuid))
    written = objects.InstanceInfoCache(admin, instance_uuid=lost.uuid, network_info=information("fa:16:3e:00:00:02"))
    statements.clear()
    found["lost"] = [attempt(written.save), count("SAVEPOINT")]
    found["made anew"] = cache(lost).network_info[0]["address"]
    gone = create({})
    held = cache(gone)
    cache(gone).delete()
    held.network_info = information("fa:16:3e:00:00:03")
    found["deleted"] = attempt(held.save)
    tell(found)
"""
)


@pytest.fixture(scope="module")
def ours():
    return inside(WRITES, "ours")


@pytest.fixture(scope="module")
def stock():
    return inside(WRITES, "stock")


def test_a_new_server_takes_one_statement_for_its_system_metadata(ours):
    assert ours["inserts"] == 1
    assert len(ours["rows"]) == 7


def test_a_row_that_exists_is_updated_without_a_savepoint(ours):
    assert ours["savepoints"] == 0
    assert ours["lost"] == ["done", 1]


def test_the_outcome_is_upstreams(ours, stock):
    assert ours["rows"][0][:2] == ["key0", "value 0"]
    assert ours["twice"] == stock["twice"] == "DBDuplicateEntry"
    same = set(ours) - {"inserts", "savepoints"}
    assert {name: ours[name] for name in same} == {name: stock[name] for name in same}


def test_upstream_writes_each_value_by_a_statement(stock):
    """If this fails, upstream no longer does, and `creation` in services/patches/nova/row_writes.py can go."""
    assert stock["inserts"] == 7


def test_upstream_makes_a_savepoint(stock):
    """If this fails, upstream no longer does, and `update` in services/patches/nova/row_writes.py can go."""
    assert stock["savepoints"] == 2
