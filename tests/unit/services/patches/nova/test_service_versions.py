"""The oldest versions of services, with Nova's real objects over its real database layer on SQLite."""

import pytest
from upstream import NOVA, inside

VERSIONS = (
    NOVA
    + """
    import sqlalchemy

    if sys.argv[1] == "ours":
        from atoll.services.patches.nova import service_versions
        service_versions.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    # A context of a cell reaches the same database through another context manager.
    cell = context.get_admin_context()
    cell.db_connection = api.create_context_manager(nova.conf.CONF.database.connection)

    def oldest(of=None):
        statements.clear()
        found = objects.Service._db_service_get_minimum_version(of or cell, ["nova-compute"])
        return [found.get("nova-compute"), len(statements)]

    def service(host, version):
        objects.service.SERVICE_VERSION = version
        made = objects.Service(admin, host=host, binary="nova-compute", topic="compute", report_count=0)
        made.create()
        return made
"""
)

CASES = """
    objects.Service._check_minimum_version = objects.Service._send_notification = lambda *_: None

    def written(service, context=None, **values):
        return api.service_update(context or admin, service.id, values)

    found = {"none": [oldest(), oldest()]}
    first = service("a", 68)
    found["first"] = [oldest(), oldest(), oldest(admin)]
    second = service("b", 66)
    found["an older one"] = [oldest(), oldest()]
    first.report_count += 1
    first.save()
    found["a report"] = [oldest(), oldest()]
    first.report_count += 1
    first.save()
    second.report_count += 1
    second.save()
    oldest()
    first.report_count += 1
    first.save()
    found["another report"] = oldest()
    written(second, version=69)
    found["upgraded"] = [oldest(), oldest()]
    written(second, context=cell, version=65)
    found["downgraded through the cell"] = [oldest(), oldest()]
    written(second, version=69)
    found["and back"] = oldest()
    written(first, forced_down=True)
    found["forced down"] = oldest()
    written(first, forced_down=False)
    found["up again"] = oldest()
    second.destroy()
    first.destroy()
    found["gone"] = oldest()
    third = service("c", 70)
    found["new"] = oldest()
    try:
        api.service_update(admin, 12345, {"version": 1})
    except Exception as error:
        found["unknown"] = [type(error).__name__, oldest()[0]]

    if sys.argv[1] == "ours":
        # A reading that a change overtakes is not kept.
        versions = service_versions._versions(admin)
        generation = versions.generation
        stale = {"nova-compute": 1}
        written(third, version=71)
        versions.keep(frozenset(["nova-compute"]), stale, generation)
        found["overtaken"] = oldest()[0]
        answer = api.service_get_minimum_version(admin, ["nova-compute"])
        answer["nova-compute"] = 0
        found["changed by its reader"] = oldest()[0]
    tell(found)
"""


@pytest.fixture(scope="module")
def ours():
    return inside(VERSIONS + CASES, "ours")


@pytest.fixture(scope="module")
def stock():
    return inside(VERSIONS + CASES, "stock")


def test_an_answer_is_kept_until_a_service_changes(ours):
    assert ours["first"] == [[68, 1], [68, 0], [68, 0]]
    assert ours["an older one"] == [[66, 1], [66, 0]]
    assert ours["another report"] == [66, 0]
    assert ours["upgraded"] == [[68, 1], [68, 0]]


def values(found):
    """Return the versions of all answers, without the numbers of statements."""
    same = {name: each for name, each in found.items() if name not in {"overtaken", "changed by its reader", "unknown"}}
    return {name: [answer[0] for answer in each] if isinstance(each[0], list) else each[0] for name, each in same.items()}


def test_every_change_is_seen_at_once(ours, stock):
    assert values(ours) == values(stock)
    assert ours["downgraded through the cell"][0][0] == 65
    assert ours["forced down"][0] == 69
    assert ours["gone"][0] is None
    assert ours["new"][0] == 70


def test_a_failed_change_is_upstreams(ours, stock):
    assert ours["unknown"] == stock["unknown"] == ["ServiceNotFound", 70]


def test_a_reading_that_a_change_overtook_is_not_kept(ours):
    assert ours["overtaken"] == 71
    assert ours["changed by its reader"] == 71


def test_upstream_reads_each_time(stock):
    """If this fails, upstream keeps the answers itself, and services/patches/nova/service_versions.py can go."""
    assert stock["first"] == [[68, 1]] * 3
