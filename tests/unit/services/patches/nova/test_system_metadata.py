"""System metadata that is read with its server, by Nova's real objects and database layer on SQLite."""

import pytest
from test_accepted_deletion import SERVERS
from upstream import inside

READS = (
    SERVERS
    + """
    import sqlalchemy
    from sqlalchemy import orm

    if sys.argv[1] == "ours":
        from atoll.services.patches.nova import system_metadata
        system_metadata.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(" ".join(statement.split()))

    ODD = {"quotes": "'\\"`", "lines": "a\\nb\\r\\tc", "letters": "\\u00e9\\u4e2d\\U0001f600", "empty": "", "json": '[1, {"a": null}]',
           "nothing": None, "back": "\\\\u0041", "zero": "a\\x00b", "long": "x" * 255, "control": "\\x01\\x1f\\x7f"}

    def made(**values):
        instance = server()
        instance.system_metadata = values
        instance.save()
        return instance.uuid

    def read(uuid, *attributes):
        return objects.Instance.get_by_uuid(admin, uuid, expected_attrs=list(attributes or ["system_metadata"]))

    def stored(uuid):
        table = models.InstanceSystemMetadata.__table__
        with api.get_context_manager(admin).reader.using(admin):
            rows = admin.session.execute(table.select().where(table.c.instance_uuid == uuid).order_by(table.c.id)).mappings().all()
        return [[row["key"], row["value"], row["deleted"], row["updated_at"] is not None] for row in rows]

    def counted(act):
        statements.clear()
        told = act()
        return [told, len(statements)]

    found = {}
    odd = made(**ODD)
    found["odd"] = counted(lambda: read(odd).system_metadata)
    found["odd, stored"] = stored(odd)
    none = made()
    found["none"] = counted(lambda: read(none).system_metadata)
    found["unasked"] = counted(lambda: read(none, "info_cache").obj_attr_is_set("system_metadata"))

    changed = read(odd, "system_metadata", "metadata")
    changed.system_metadata["quotes"] = "new"
    del changed.system_metadata["lines"]
    changed.system_metadata["more"] = "x"
    changed.task_state = None
    def save():
        changed.save()
        return changed.system_metadata
    found["changed"] = counted(save)
    found["changed, stored"] = stored(odd)

    # Another object writes between the reading and the save.
    first, second = read(odd), read(odd)
    second.system_metadata["quotes"], second.system_metadata["new"] = "of the second", "y"
    second.save()
    first.task_state = task_states.SPAWNING
    first.save(expected_task_state=[None])
    found["of others"] = [first.system_metadata, stored(odd)]
    first.system_metadata = {"only": "this"}
    first.save()
    found["replaced"] = [first.system_metadata, stored(odd)]
    found["refused"] = [attempt(lambda: second.save()), attempt(lambda: setattr(second, "task_state", task_states.DELETING)
                        or second.save(expected_task_state=[task_states.RESIZE_PREP])), stored(odd)]

    def models_of(uuid, **options):
        # The rows as objects of SQLAlchemy.
        with api.get_context_manager(admin).reader.using(admin):
            instance = api._instance_get_by_uuid(admin, uuid, columns_to_join=["system_metadata"])
            rows = instance.system_metadata
            return [[type(row).__name__, str(type(row.created_at).__name__), row.id, row.instance is instance, row in admin.session,
                     sqlalchemy.inspect(row).modified] for row in sorted(rows, key=lambda row: row.id)]

    found["objects"] = [row[:2] + row[3:] for row in models_of(odd)]

    def pending(uuid):
        # An object that the session holds, with a change that is not written, stays as it is.
        with api.get_context_manager(admin).writer.using(admin):
            with admin.session.no_autoflush:
                held = admin.session.query(models.InstanceSystemMetadata).filter_by(instance_uuid=uuid).first()
                held.value = "pending"
                instance = api._instance_get_by_uuid(admin, uuid, columns_to_join=["system_metadata"])
                told = [row.value for row in instance.system_metadata], instance.system_metadata[0] is held
                admin.session.refresh(instance)
                admin.session.refresh(instance, ["system_metadata"])
                return *told, len(instance.system_metadata), sqlalchemy.inspect(held).modified

    found["pending"] = pending(odd)
    found["pending, stored"] = stored(odd)

    def rolled_back():
        with api.get_context_manager(admin).writer.using(admin):
            instance = api._instance_get_by_uuid(admin, odd, columns_to_join=["system_metadata"])
            values = {"only": "z", "b": "c"}
            api._instance_metadata_update_in_place(admin, instance, "system_metadata", models.InstanceSystemMetadata, values)
            admin.session.flush()
            raise ValueError
    found["rolled back"] = [attempt(rolled_back), stored(odd)]

    gone = made(a="1")
    read(gone).destroy()
    past = context.get_admin_context(read_deleted="yes")
    found["deleted"] = [attempt(lambda: read(gone)),
                        objects.Instance.get_by_uuid(past, gone, expected_attrs=["system_metadata"]).system_metadata, stored(gone)]
    listed = objects.InstanceList.get_by_filters(admin, {}, expected_attrs=["system_metadata"], sort_key="id", sort_dir="asc")
    found["listed"] = [each.system_metadata for each in listed]
    with api.get_context_manager(admin).reader.using(admin):
        query = api._build_instance_get(admin, columns_to_join=["system_metadata", "metadata"])
        statements.clear()
        found["many"] = [{row.key: row.value for row in each.system_metadata} for each in query.all()]
        found["many, statements"] = len(statements)
    tell(found)
"""
)


@pytest.fixture(scope="module")
def ours():
    return inside(READS, "ours")


@pytest.fixture(scope="module")
def stock():
    return inside(READS, "stock")


COUNTED = ("odd", "none", "changed")


def test_a_read_takes_one_statement_fewer(ours, stock):
    assert [ours[name][1] for name in COUNTED] == [stock[name][1] - 1 for name in COUNTED]
    assert ours["unasked"] == stock["unasked"] == [False, 1]
    assert ours["odd"][1] == 1


def test_upstream_reads_them_by_a_statement(stock):
    """If this fails, upstream reads them with their server, and the patch can go."""
    assert stock["odd"][1] == 2


def test_values_rows_and_objects_are_upstreams(ours, stock):
    assert [ours[name][0] for name in COUNTED] == [stock[name][0] for name in COUNTED]
    same = set(stock) - {*COUNTED, "many, statements"}
    assert {name: ours[name] for name in same} == {name: stock[name] for name in same}
    assert ours["many, statements"] < stock["many, statements"]


def test_odd_values_are_kept(ours):
    told = ours["odd"][0]
    assert told["zero"] == "a\0b"
    assert told["nothing"] is None
    assert told["letters"] == "\u00e9\u4e2d\U0001f600"
    assert ours["of others"][0]["quotes"] == "of the second"
    assert ours["replaced"][0] == {"only": "this"}
    assert ours["rolled back"][0] == "ValueError"
