"""Recovery of tasks, over Nova's real objects and database layer on SQLite."""

import pytest
from upstream import NOVA, inside

CUT_SHORT = """
    from unittest import mock
    from nova.compute import task_states, vm_states
    from nova.objects import fields
    from oslo_utils import uuidutils
    from atoll.services.nova.recovery import tasks
    from atoll.services.nova.recovery.redelivery import Redelivery

    def made(task_state, host="paris"):
        row = objects.Instance(admin, uuid=uuidutils.generate_uuid(), project_id="p", user_id="u", vm_state=vm_states.ACTIVE,
                               task_state=task_state, host=host, node=host, compute_id=1, flavor=flavor(), system_metadata={}, metadata={})
        row.create()
        return row.uuid

    states = list(fields.InstanceTaskState.ALL)
    servers = {state: made(state) for state in states}
    servers["none"] = made(None)
    servers["elsewhere"] = made(task_states.PAUSING, "lyon")
    servers["later"] = made(task_states.PAUSING)
    compute = mock.Mock(host="paris")
    tasks.recover(compute, admin, Redelivery((servers["later"].encode(),)))
    again = {name: [call.args[1].uuid for call in getattr(compute, name).call_args_list] for name in tasks.AGAIN.values()}
    names = {uuid: name for name, uuid in servers.items()}
    tell({
        "states": states,
        "kinds": [sorted(tasks.AGAIN), sorted(tasks.RESET), sorted(tasks.ELSEWHERE)],
        "after": {name: objects.Instance.get_by_uuid(admin, uuid).task_state for name, uuid in servers.items()},
        "again": {name: [names[uuid] for uuid in uuids] for name, uuids in again.items()},
    })
"""


@pytest.fixture(scope="module")
def found():
    return inside(NOVA + CUT_SHORT)


def test_every_task_that_upstream_knows_has_a_rule(found):
    again, reset, elsewhere = found["kinds"]
    assert sorted([*again, *reset, *elsewhere]) == sorted(found["states"])


def test_acknowledged_tasks_are_repeated(found):
    assert found["again"] == {"soft_delete_instance": ["soft-deleting"], "restore_instance": ["restoring"]}


def test_other_tasks_end_and_those_of_upstream_are_left_to_it(found):
    _again, reset, _elsewhere = found["kinds"]
    ended = {name for name, task in found["after"].items() if task is None}
    assert ended == {*reset, "none"}


def test_servers_of_other_hosts_and_redelivered_tasks_are_left_alone(found):
    assert (found["after"]["elsewhere"], found["after"]["later"]) == ("pausing", "pausing")
