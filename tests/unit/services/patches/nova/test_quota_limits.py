"""Checks of the quota of servers, with Nova's real objects over its real database layers on SQLite."""

import pytest
from upstream import NOVA_WITH_API, inside

CHECKS = (
    NOVA_WITH_API
    + """
    import sqlalchemy
    from nova import exception, quota
    from nova.compute import utils
    from oslo_utils import uuidutils

    cell1 = objects.CellMapping(admin, uuid=uuidutils.generate_uuid(), name="cell1", transport_url="none:///",
                                database_connection=nova.conf.CONF.database.connection, disabled=False)
    cell1.create()

    if sys.argv[1] == "ours":
        from atoll.services.patches.nova import quota_limits
        quota_limits.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(" ".join(statement.split()))

    user = context.RequestContext("u", "p")

    def check(least=1, most=1, **more):
        statements.clear()
        try:
            return utils.check_num_instances_quota(user, flavor(64), least, most, **more)
        except exception.TooManyInstances as error:
            return [str(error)]

    def server():
        objects.Instance(admin, uuid=uuidutils.generate_uuid(), project_id="p", user_id="u", vcpus=1, memory_mb=64, flavor=flavor(64),
                         vm_state="active", system_metadata={}, metadata={}).create()

    def limit(number, user_id=None):
        try:
            objects.Quotas.create_limit(admin, "p", "instances", number, user_id=user_id)
        except exception.QuotaExists:
            objects.Quotas.update_limit(admin, "p", "instances", number, user_id=user_id)
"""
)

CASES = """
    found = {}
    check()
    found["default"], found["statements"] = check(), list(statements)
    limit(3)
    found["project"] = [check(1, 2), check(1, 5), check(4, 4)]
    server()
    found["with one"] = [check(1, 5), check(3, 3)]
    limit(1)
    found["lowered at once"] = [check(), check(0, 0, orig_num_req=1)]
    limit(9)
    limit(2, "u")
    found["user"] = [check(1, 5), check(2, 2)]
    limit(5, "u")
    found["user raised at once"] = check(1, 5)
    objects.Quotas.create_class(admin, "default", "cores", 1)
    found["class"] = check()
    objects.Quotas.update_class(admin, "default", "cores", 20)
    found["class raised at once"] = check()
    # The recheck finds what was created after the first check.
    limit(2, "u")
    found["before the race"] = check()
    server()
    server()
    found["recheck"] = check(0, 0, orig_num_req=1)
    # Two limits of other projects, and reading outside of a check.
    found["others"] = [objects.Quotas.get_all_by_project(admin, name) for name in ("p", "q")]
    found["others, users"] = [objects.Quotas.get_all_by_project_and_user(admin, "p", name) for name in ("u", "v")]
    tell(found)
"""

LEGACY = """
    with api.context_manager.writer.using(admin):
        admin.session.add(models.Quota(project_id="p", resource="instances", hard_limit=1))
        admin.session.add(models.ProjectUserQuota(project_id="p", user_id="u", resource="cores", hard_limit=3))
    server()
    found = {"over": check(), "limits": [objects.Quotas.get_all_by_project(admin, "p"),
                                         objects.Quotas.get_all_by_project_and_user(admin, "p", "u")]}
    tell(found)
"""


def asked(found, table):
    return sum(f"FROM {table} " in each for each in found["statements"])


@pytest.fixture(scope="module")
def ours():
    return inside(CHECKS + CASES, "ours")


@pytest.fixture(scope="module")
def stock():
    return inside(CHECKS + CASES, "stock")


def test_a_check_reads_each_limit_once(ours):
    assert [asked(ours, table) for table in ("project_user_quotas", "quotas", "quota_classes", "instances")] == [1, 1, 1, 1]


def test_upstream_reads_limits_twice_and_from_unused_tables(stock):
    """If this fails, upstream reads less: look whether services/patches/nova/quota_limits.py still needs to."""
    assert [asked(stock, table) for table in ("project_user_quotas", "quotas", "quota_classes", "instances")] == [4, 2, 2, 1]


def test_decisions_are_upstreams(ours, stock):
    same = set(ours) - {"statements"}
    assert {name: ours[name] for name in same} == {name: stock[name] for name in same}


def test_too_many_servers_are_refused(ours):
    assert ours["default"] == 1
    assert ours["project"][:2] == [2, 3]
    assert "Quota exceeded" in ours["project"][2][0]
    assert [isinstance(each, list) for each in ours["lowered at once"]] == [True, False]
    assert isinstance(ours["recheck"], list), "a server that was created after the first check counts"


def test_limits_in_the_cells_database_still_count():
    found = inside(CHECKS + LEGACY, "ours")
    assert found == inside(CHECKS + LEGACY, "stock")
    assert "Quota exceeded" in found["over"][0]
