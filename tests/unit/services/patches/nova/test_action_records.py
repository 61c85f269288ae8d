"""Records of actions and their events, written by Nova's real objects and database layer on SQLite."""

import pytest
from test_accepted_deletion import SERVERS
from upstream import inside

RECORDS = (
    SERVERS
    + """
    import sqlalchemy
    from oslo_utils import timeutils

    if sys.argv[1] == "ours":
        from atoll.services.patches.nova import action_records
        action_records.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(" ".join(statement.split()))

    class Clock:
        now = 0

    def tick():
        Clock.now += 1
        return timeutils.datetime.datetime(2026, 1, 1) + timeutils.datetime.timedelta(seconds=Clock.now)

    timeutils.utcnow = lambda with_timezone=False: tick()

    def rows():
        found = []
        for model in (models.InstanceAction, models.InstanceActionEvent):
            with api.get_context_manager(admin).reader.using(admin):
                every = admin.session.execute(model.__table__.select().order_by(model.id)).mappings().all()
            # The times of the test's clock depend on how often it was read.
            columns = {"instance_uuid", "traceback", "created_at", "updated_at", "start_time", "finish_time"}
            found.append([{key: value for key, value in row.items() if key not in columns}
                          | {key: row[key] is not None for key in columns - {"instance_uuid"} if key in row}
                          | {"same time": str(row["updated_at"]) == str(row["finish_time"] or row["start_time"])} for row in every])
        return found

    def when(request):
        # The action's time is that of its last event.
        action = objects.InstanceAction.get_by_request_id(admin, uuid, request)
        events = objects.InstanceActionEventList.get_by_action(admin, action.id)
        return [action.updated_at == (events[0].finish_time or events[0].start_time), action.message, len(events)]

    def counted(act):
        statements.clear()
        told = attempt(act)
        return [told, len(statements)]

    uuid = server().uuid
    Event = objects.InstanceActionEvent

    def user(request, project="p"):
        return context.RequestContext("u", project, request_id=request, is_admin=True)

    def begin(request, name="event", **more):
        return lambda: Event.event_start(user(request, more.pop("project", "p")), uuid, name, **more)

    def end(request, name="event", project="p", **more):
        return lambda: Event.event_finish_with_failure(user(request, project), uuid, name, **more)

    found = {}
    for request in ("one", "two"):
        objects.InstanceAction.action_start(user(request), uuid, "create", want_result=False)
    found["begin"] = counted(begin("one", host="paris", want_result=False))
    found["begun"] = when("one")
    found["end"] = counted(end("one", want_result=False))
    found["ended"] = when("one")
    found["failed"] = [attempt(begin("two")), attempt(end("two", exc_val="no room", exc_tb="line 1")), when("two")]
    result = Event.event_start(user("two"), uuid, "third", host="rome")
    found["result"] = [result.event, result.host, result.result, result.finish_time is None]
    result = Event.event_finish_with_failure(user("two"), uuid, "third", want_result=True)
    found["result of the end"] = [result.event, result.host, result.result, result.finish_time is not None]
    found["no event"] = [attempt(end("two", "other")), when("two")[1:]]
    found["no action"] = [attempt(begin("three")), attempt(end("three"))]
    # nova-compute's own context, after its start, has no project and another id of the request.
    found["recovery"] = [attempt(begin("four", "init", project=None)), attempt(end("four", "init", project=None))]
    objects.InstanceAction.action_start(user("one"), uuid, "again", want_result=False)
    found["latest of the request"] = [attempt(begin("one", "late")), when("one")[2]]
    found["twice"] = [attempt(begin("one", "late")), attempt(end("one", "late")), attempt(end("one", "late"))]
    found["of another server"] = attempt(lambda: Event.event_start(user("one"), uuidutils.generate_uuid(), "event"))
    with api.get_context_manager(admin).writer.using(admin):
        admin.session.query(models.InstanceAction).filter_by(request_id="two").update({"deleted": 2})
    found["deleted action"] = [attempt(begin("two", "more")), attempt(end("two", "third"))]
    found["rows"] = rows()
    # A transaction that fails after the record leaves none.
    before = rows()
    def fails():
        other = user("one")
        with api.get_context_manager(other).writer.using(other):
            Event.event_start(other, uuid, "rolled back")
            ended = Event.event_finish(other, uuid, "rolled back")
            found["in one transaction"] = [ended.result, ended.finish_time is not None]
            raise ValueError
    found["rolled back"] = [attempt(fails), rows() == before]
    tell(found)
"""
)


@pytest.fixture(scope="module")
def ours():
    return inside(RECORDS, "ours")


@pytest.fixture(scope="module")
def stock():
    return inside(RECORDS, "stock")


def test_an_event_takes_four_statements(ours):
    assert ours["begin"] == ["done", 2]
    assert ours["end"] == ["done", 2]


def test_upstream_reads_what_it_updates(stock):
    """If this fails, upstream needs fewer statements: look whether services/patches/nova/action_records.py still needs to."""
    assert stock["begin"] == ["done", 3]
    assert stock["end"] == ["done", 4]


def test_rows_results_and_errors_are_upstreams(ours, stock):
    same = set(stock) - {"begin", "end"}
    assert {name: ours[name] for name in same} == {name: stock[name] for name in same}


def test_what_is_recorded(ours):
    assert ours["begun"] == [True, None, 1]
    assert ours["ended"] == [True, None, 1]
    assert ours["failed"] == ["done", "done", [True, "Error", 1]]
    assert ours["no event"][0] == "InstanceActionEventNotFound"
    assert ours["no action"] == ["InstanceActionNotFound"] * 2
    assert ours["recovery"] == ["done", "done"]
    assert ours["deleted action"] == ["InstanceActionNotFound"] * 2
    assert ours["rolled back"] == ["ValueError", True]
    assert ours["in one transaction"] == ["Success", True]
