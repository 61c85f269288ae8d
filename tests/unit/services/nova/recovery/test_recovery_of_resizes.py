"""Recovery of resizes, over Nova's real objects and database layer on SQLite."""

import pytest
from upstream import NOVA, inside

CUT_SHORT = """
    from types import SimpleNamespace
    from unittest import mock
    from nova.compute import manager, task_states, vm_states
    from oslo_utils import uuidutils
    from atoll.services.nova.recovery import resizes
    from atoll.services.nova.recovery.redelivery import Redelivery

    held = {}
    class Placement:
        def get_allocations_for_consumer(self, _context, uuid):
            return {"provider": held[uuid]} if uuid in held else {}
        def move_allocations(self, _context, source, target):
            held[target] = held.pop(source)
        def delete_allocation_for_instance(self, _context, uuid, consumer_type, force):
            held.pop(uuid, None)
        def get_allocations_for_resource_provider(self, _context, _uuid):
            return SimpleNamespace(allocations=dict(held))

    class Host(manager.ComputeManager):
        def __init__(self):
            self.host, self.reportclient, self.confirmed = "paris", Placement(), []
        def confirm_resize(self, _context, instance, migration):
            self.confirmed.append(instance.uuid)
            self.reportclient.delete_allocation_for_instance(_context, migration.uuid, "migration", False)
            instance.vm_state, instance.task_state = vm_states.ACTIVE, None
            instance.save()
            migration.status = "confirmed"
            migration.save()

    def made(vm_state, task_state, status, kind="resize", holds=True, host="paris"):
        row = objects.Instance(admin, uuid=uuidutils.generate_uuid(), project_id="p", user_id="u", vm_state=vm_state,
                               task_state=task_state, host=host, node=host, compute_id=1, flavor=flavor(), system_metadata={}, metadata={})
        row.create()
        migration = objects.Migration(admin, instance_uuid=row.uuid, status=status, migration_type=kind, source_compute=host,
                                      dest_compute=host, source_node=host, dest_node=host, dest_compute_id=1, old_instance_type_id=1,
                                      new_instance_type_id=1, uuid=uuidutils.generate_uuid())
        migration.create()
        held[row.uuid] = "new"
        if holds:
            held[migration.uuid] = "old"
        return row.uuid, migration.uuid

    servers = {
        "not moved": made(vm_states.ACTIVE, None, "pre-migrating"),
        "not claimed": made(vm_states.ACTIVE, None, "pre-migrating", holds=False),
        "moved": made(vm_states.ACTIVE, task_states.RESIZE_MIGRATED, "post-migrating"),
        "finishing": made(vm_states.ACTIVE, task_states.RESIZE_FINISH, "post-migrating"),
        "all but finished": made(vm_states.ACTIVE, task_states.RESIZE_FINISH, "finished"),
        "reverting": made(vm_states.RESIZED, task_states.RESIZE_REVERTING, "reverting"),
        "finished": made(vm_states.RESIZED, None, "finished"),
        "confirming": made(vm_states.RESIZED, None, "confirming"),
        "half confirmed": made(vm_states.RESIZED, None, "confirmed"),
        "confirmed": made(vm_states.ACTIVE, None, "confirmed"),
        "live": made(vm_states.ACTIVE, task_states.MIGRATING, "running", kind="live-migration"),
        "elsewhere": made(vm_states.ACTIVE, None, "pre-migrating", host="lyon"),
        "failed": made(vm_states.ACTIVE, None, "error"),
        "failed and emptied": made(vm_states.ACTIVE, None, "error"),
        "prepared, coming": made(vm_states.ACTIVE, task_states.RESIZE_PREP, "pre-migrating"),
        "moved, coming": made(vm_states.ACTIVE, task_states.RESIZE_MIGRATED, "post-migrating"),
        "other cast coming": made(vm_states.ACTIVE, None, "pre-migrating"),
    }
    del held[servers["failed and emptied"][0]]
    coming = [("prep_resize", "prepared, coming"), ("finish_resize", "moved, coming"), ("reboot_instance", "other cast coming")]
    redelivery = Redelivery(tuple(f'{{"method":"{method}","args":"{servers[name][0]}"}}'.encode() for method, name in coming))
    compute, found = Host(), []
    for _start in range(2):
        with mock.patch.object(objects.ComputeNodeList, "get_all_by_host", lambda _context, _host: [SimpleNamespace(uuid="n")]):
            resizes.recover(compute, admin, redelivery)
        result = {}
        for name, (server, migration) in servers.items():
            row = objects.Instance.get_by_uuid(admin, server)
            status = objects.Migration.get_by_uuid(admin, migration).status
            result[name] = [row.vm_state, row.task_state, status, held.get(server), held.get(migration)]
        found.append(result)
    tell({"first": found[0], "second": found[1], "confirmed": len(compute.confirmed)})
"""


@pytest.fixture(scope="module")
def found():
    return inside(NOVA + CUT_SHORT)


@pytest.mark.parametrize(
    ("name", "then"),
    [
        ("not moved", ["active", None, "error", "old", None]),
        ("not claimed", ["active", None, "error", "new", None]),
        ("moved", ["error", None, "error", "new", None]),
        ("finishing", ["error", None, "error", "new", None]),
        ("all but finished", ["resized", None, "finished", "new", "old"]),
        ("reverting", ["error", None, "error", "new", None]),
        ("finished", ["resized", None, "finished", "new", "old"]),
        ("confirming", ["active", None, "confirmed", "new", None]),
        ("half confirmed", ["active", None, "confirmed", "new", None]),
        ("confirmed", ["active", None, "confirmed", "new", None]),
        ("live", ["active", "migrating", "running", "new", "old"]),
        ("elsewhere", ["active", None, "pre-migrating", "new", "old"]),
        ("failed", ["active", None, "error", "new", None]),
        ("failed and emptied", ["active", None, "error", "old", None]),
        ("prepared, coming", ["active", "resize_prep", "pre-migrating", "new", "old"]),
        ("moved, coming", ["active", "resize_migrated", "post-migrating", "new", "old"]),
        ("other cast coming", ["active", None, "error", "old", None]),
    ],
)
def test_interrupted_resizes_are_settled_and_others_left_alone(found, name, then):
    assert found["first"][name] == then


def test_a_second_start_finds_nothing_to_do(found):
    assert found["second"] == found["first"]
    assert found["confirmed"] == 2
