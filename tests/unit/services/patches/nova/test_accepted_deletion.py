"""Accepted deletions, with Nova's real objects, its database layer and its compute manager on SQLite."""

import pytest
from upstream import NOVA, inside

SERVERS = (
    NOVA
    + """
    from unittest import mock
    from nova import exception
    from nova.compute import manager, task_states, vm_states
    from nova.scheduler import utils
    from oslo_utils import uuidutils

    if sys.argv[1] == "ours":
        from atoll.services.patches.nova import accepted_deletion
        accepted_deletion.install()

    def server(vm_state=vm_states.BUILDING, task_state=task_states.SPAWNING, **more):
        made = objects.Instance(
            admin, uuid=uuidutils.generate_uuid(), project_id="p", user_id="u", vm_state=vm_state, task_state=task_state, host="paris",
            node="paris", compute_id=1, flavor=flavor(), system_metadata={}, metadata={}, **more)
        made.create()
        return objects.Instance.get_by_uuid(admin, made.uuid, expected_attrs=["system_metadata", "metadata", "flavor", "info_cache"])

    def deleted_meanwhile(instance, state=task_states.DELETING):
        other = objects.Instance.get_by_uuid(admin, instance.uuid)
        other.task_state = state
        other.save()
        return other

    def held(instance):
        row = objects.Instance.get_by_uuid(admin, instance.uuid)
        return [row.vm_state, row.task_state, row.host]

    class Host(manager.ComputeManager):
        def __init__(self):
            self.host, self.driver, self.network_api, self.rt = "paris", mock.Mock(), mock.Mock(), mock.Mock()
        def _deallocate_network(self, *_arguments):
            pass
        @manager.reverts_task_state
        def failing(self, context, instance):
            raise ValueError
    compute = Host()

    def attempt(function, *arguments, **keywords):
        try:
            function(*arguments, **keywords)
            return "done"
        except Exception as error:
            return type(error).__name__
"""
)

OTHERS_SAVES = (
    SERVERS
    + """
    def end_of_build(instance):
        instance.vm_state, instance.task_state = vm_states.ACTIVE, None
        told = attempt(instance.save, expected_task_state=task_states.SPAWNING)
        assert told in ("UnexpectedDeletingTaskStateError", "UnexpectedTaskStateError"), told
        compute._cleanup_allocated_networks(admin, instance, None)

    def failed_build(instance):
        compute._nil_out_instance_obj_host_and_node(instance)
        compute._set_instance_obj_error_state(instance, clean_task_state=True)

    def rescheduled(instance):
        compute._nil_out_instance_obj_host_and_node(instance)
        instance.task_state = task_states.SCHEDULING
        instance.save()

    def next_step(instance):
        instance.vm_state, instance.task_state = vm_states.BUILDING, task_states.BLOCK_DEVICE_MAPPING
        instance.save()

    def reverted(instance):
        attempt(compute.failing, admin, instance)

    def conductor(instance):
        updates = {"vm_state": vm_states.ERROR, "task_state": None}
        utils.set_vm_state_and_notify(admin, instance.uuid, "compute_task", "build_instances", updates, ValueError(), None)

    def confirmed(instance):
        instance.vm_state, instance.task_state = vm_states.ACTIVE, None
        instance.save(expected_task_state=[None, task_states.DELETING, task_states.SOFT_DELETING])

    def twice(instance):
        failed_build(instance)
        failed_build(instance)

    def received(instance):
        sent = objects.Instance.obj_from_primitive(instance.obj_to_primitive(), admin)
        failed_build(sent)

    def refreshed(instance):
        instance.refresh()
        failed_build(instance)

    kinds = [end_of_build, failed_build, rescheduled, next_step, reverted, conductor, confirmed, twice, received, refreshed]
    found = {}
    for kind in kinds:
        for state in (task_states.DELETING, task_states.SOFT_DELETING):
            instance = server()
            with mock.patch.object(utils, "rpc"), mock.patch.object(utils, "compute_utils"):
                deleted_meanwhile(instance, state)
                kind(instance)
            found[f"{kind.__name__} {state}"] = held(instance)[1:] == [state, "paris"]
    tell(found)
"""
)

THE_REST = (
    SERVERS
    + """
    found = {}

    def ended(instance, **states):
        for name, value in states.items():
            setattr(instance, name, value)
        instance.save()
        return held(instance)

    # A deletion's own object may end it, however it came by it.
    begun = deleted_meanwhile(server())
    found["it began it"] = ended(begun, vm_state=vm_states.ERROR, task_state=None)
    read = objects.Instance.get_by_uuid(admin, deleted_meanwhile(server()).uuid)
    found["it was read"] = ended(read, vm_state=vm_states.ERROR, task_state=None)
    sent = objects.Instance.obj_from_primitive(deleted_meanwhile(server()).obj_to_primitive(), admin)
    found["it was received"] = ended(sent, vm_state=vm_states.ERROR, task_state=None)
    half = deleted_meanwhile(server())
    half.vm_state, half.task_state = vm_states.ERROR, None
    half = objects.Instance.obj_from_primitive(half.obj_to_primitive(), admin)
    half.save()
    found["it was received, changed"] = held(half)
    found["a copy"] = ended(deleted_meanwhile(server()).obj_clone(), vm_state=vm_states.ERROR, task_state=None)

    # An end of a deletion is an end, whoever brings it about, and so is what an administrator sets.
    other = server(vm_states.SOFT_DELETED, None)
    deleted_meanwhile(other)
    found["deleted"] = ended(other, vm_state=vm_states.DELETED, task_state=None)
    reset = server(vm_states.ACTIVE, None)
    deleted_meanwhile(reset)
    reset.vm_state, reset.task_state = vm_states.ERROR, task_states.SPAWNING
    reset.save(admin_state_reset=True)
    found["reset"] = held(reset)
    soft = deleted_meanwhile(server(vm_states.ACTIVE, None), task_states.SOFT_DELETING)
    soft.vm_state, soft.task_state = vm_states.SOFT_DELETED, None
    soft.save(expected_task_state=[task_states.SOFT_DELETING])
    found["soft-deleted"] = held(soft)

    twice = server(vm_states.ACTIVE, None)
    deleted_meanwhile(twice)
    twice.task_state = task_states.SOFT_DELETING
    twice.save()
    found["softly too"] = held(twice)
    sooner = server(vm_states.ACTIVE, None)
    deleted_meanwhile(sooner, task_states.SOFT_DELETING)
    found["and now for good"] = ended(sooner, task_state=task_states.DELETING)

    # Nobody deletes it: as upstream.
    plain = server()
    compute._nil_out_instance_obj_host_and_node(plain)
    compute._set_instance_obj_error_state(plain, clean_task_state=True)
    found["nobody deletes it"] = held(plain)

    # What is refused is not written later, whatever the reason; all else is.
    refused = server(vm_states.ACTIVE, None)
    deleted_meanwhile(refused, task_states.POWERING_OFF)
    refused.vm_state, refused.task_state = vm_states.PAUSED, None
    found["refused"] = attempt(refused.save, expected_task_state=task_states.PAUSING)
    refused.display_name = "new"
    refused.save()
    found["after it"] = held(refused)
    rest = server()
    deleted_meanwhile(rest)
    rest.task_state, rest.display_name = None, "new"
    rest.system_metadata["network_allocated"] = "False"
    rest.save()
    again = objects.Instance.get_by_uuid(admin, rest.uuid, expected_attrs=["system_metadata"])
    unsaved = sorted(rest.obj_what_changed() & {"task_state", "vm_state", "display_name"})
    found["the rest"] = [again.display_name, again.system_metadata, again.task_state, rest.task_state, unsaved]

    # What is gone is gone.
    gone = server()
    deleted_meanwhile(gone).destroy()
    gone.task_state = None
    found["gone"] = attempt(gone.save)

    with mock.patch.object(api, "instance_update_and_get_original", wraps=api.instance_update_and_get_original) as update:
        usual = server(vm_states.ACTIVE, None)
        usual.display_name = "new"
        usual.save()
        usual.task_state = task_states.PAUSING
        usual.save(expected_task_state=[None])
        usual.task_state = None
        usual.save()
        found["updates"] = update.call_count
    tell(found)
"""
)


@pytest.fixture(scope="module")
def others():
    return inside(OTHERS_SAVES, "ours")


@pytest.fixture(scope="module")
def rest():
    return inside(THE_REST, "ours")


def test_upstream_takes_an_accepted_deletion_back():
    """If this fails, upstream has changed, and services/patches/nova/accepted_deletion.py can go."""
    assert not any(inside(OTHERS_SAVES, "upstream").values())


def test_a_deletion_stays_accepted_whatever_else_saves_the_server(others):
    assert [kind for kind, kept in others.items() if not kept] == []
    assert len(others) == 20


@pytest.mark.parametrize("kind", ["it began it", "it was read", "it was received", "it was received, changed", "a copy"])
def test_the_deletion_itself_may_fail(rest, kind):
    assert rest[kind] == ["error", None, "paris"]


def test_the_deletion_may_end_and_an_administrator_may_reset_it(rest):
    assert (rest["deleted"], rest["soft-deleted"]) == (["deleted", None, "paris"], ["soft-delete", None, "paris"])
    assert rest["reset"] == ["error", "spawning", "paris"]


def test_a_deletion_is_not_made_a_soft_one(rest):
    assert rest["softly too"] == ["active", "deleting", "paris"]
    assert rest["and now for good"] == ["active", "deleting", "paris"]


def test_a_server_without_a_deletion_is_saved_as_upstream_does(rest):
    assert rest["nobody deletes it"] == ["error", None, None]
    assert rest["updates"] == 3, "expected one update for each save"


def test_refused_changes_are_not_written_by_a_later_save(rest):
    assert (rest["refused"], rest["after it"]) == ("UnexpectedTaskStateError", ["active", "powering-off", "paris"])


def test_all_else_is_saved(rest):
    assert rest["the rest"] == ["new", {"network_allocated": "False"}, "deleting", "deleting", []]
    assert rest["gone"] == "InstanceNotFound"
