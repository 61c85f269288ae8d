"""Deletions that nova-compute finishes at its start, with upstream's real manager."""

import pytest
from upstream import inside

START = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from types import SimpleNamespace
    from unittest import mock
    import nova.service
    from nova import objects
    from nova.compute import manager, task_states, vm_states
    from oslo_utils import importutils
    from atoll.services.nova.recovery.redelivery import Redelivery
    from atoll.services.patches.nova import recovering_manager

    upstream = importutils.import_class(nova.service.SERVICE_MANAGERS["nova-compute"])
    recovering_manager.install()
    ours = importutils.import_class(nova.service.SERVICE_MANAGERS["nova-compute"])

    UUID = "11111111-2222-3333-4444-555555555555"

    def started(kind, vm_state, task_state, host="paris"):
        instance = mock.Mock(host=host, vm_state=vm_state, task_state=task_state, uuid="u")
        compute = kind.__new__(kind)
        compute.host = "paris"
        with mock.patch.object(kind, "_delete_instance") as deleted, mock.patch.object(kind, "_set_instance_obj_error_state") as failed, \\
                mock.patch.object(objects.BlockDeviceMappingList, "get_by_instance_uuid"):
            compute._init_instance(None, instance)
        return [deleted.called, failed.called]

    def reports():
        calls = []
        recovering_manager.prepare(Redelivery(), lambda: calls.append(1))
        for host in ("paris", "lyon"):
            started(ours, vm_states.ACTIVE, task_states.DELETING, host=host)
        return len(calls)

    def task_after(kind, task_state, method=None):
        recovering_manager.prepare(Redelivery((f'{{"method":"{method}","args":"{UUID}"}}'.encode(),) if method else ()))
        saved = []
        instance = mock.MagicMock(host="paris", vm_state=vm_states.ACTIVE, task_state=task_state, uuid=UUID)
        instance.save = lambda **_more: saved.append(instance.task_state)
        compute = kind.__new__(kind)
        compute.host, compute.network_api, compute.driver = "paris", mock.Mock(), mock.Mock()
        with mock.patch.object(kind, "_get_power_state", return_value=1), \\
                mock.patch.object(kind, "_retry_reboot", return_value=(False, "")):
            compute._init_instance(None, instance)
        return [instance.task_state, saved]

    both = vm_states.BUILDING, task_states.DELETING
    tell({
        "upstream": started(upstream, *both),
        "ours": started(ours, *both),
        "only building": started(ours, vm_states.BUILDING, task_states.SPAWNING),
        "only deleting": started(ours, vm_states.ACTIVE, task_states.DELETING),
        "elsewhere": started(ours, *both, host="lyon"),
        "progress": reports(),
        "upstream resize": task_after(upstream, task_states.RESIZE_PREP, "migrate_server"),
        "resize": task_after(ours, task_states.RESIZE_PREP),
        "resize, coming": task_after(ours, task_states.RESIZE_PREP, "migrate_server"),
        "resize, other cast coming": task_after(ours, task_states.RESIZE_PREP, "reboot_instance"),
        "snapshot, coming": task_after(ours, task_states.IMAGE_SNAPSHOT_PENDING, "snapshot_instance"),
    })
"""


@pytest.fixture(scope="module")
def found():
    return inside(START)


def test_upstream_forgets_the_deletion(found):
    """If this fails, upstream has changed, and services/patches/nova/recovering_manager.py can go."""
    assert found["upstream"] == [False, True]


def test_the_deletion_is_finished_and_nothing_else_is_deleted(found):
    deleted, failed = [True, False], [False, True]
    assert (found["ours"], found["only deleting"], found["only building"]) == (deleted, deleted, failed)
    assert found["elsewhere"] == [False, False]


def test_each_server_is_reported_as_progress_of_the_start(found):
    """Guests are started one after the other, which may take longer than the start of a service may."""
    assert found["progress"] == 2


def test_upstream_ends_a_task_that_a_cast_will_begin(found):
    assert found["upstream resize"] == [None, [None]]


@pytest.mark.parametrize(
    ("case", "then"),
    [
        ("resize", [None, [None]]),
        ("resize, other cast coming", [None, [None]]),
        ("resize, coming", ["resize_prep", []]),
        ("snapshot, coming", ["image_snapshot_pending", []]),
    ],
)
def test_a_task_that_a_cast_will_begin_stays(found, case, then):
    assert found[case] == then
