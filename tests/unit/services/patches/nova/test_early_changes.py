"""Changes of a server that come while the conductor builds it, with Nova's real objects, API and conductor on SQLite."""

import pytest
from upstream import NOVA_WITH_API, inside

CHANGED = (
    NOVA_WITH_API
    + """
    from unittest import mock
    from nova.compute import api as compute_api
    from nova.conductor import manager
    import oslo_messaging
    from oslo_utils import uuidutils
    from atoll.services.patches.nova import early_changes

    if sys.argv[1] == "ours":
        early_changes.install()

    def scheduled(made=True):
        uuid = uuidutils.generate_uuid()
        instance = objects.Instance(admin, uuid=uuid, project_id="p", user_id="u", display_name="old", display_description="d",
            hostname="old", vm_state="building", flavor=flavor(), system_metadata={}, metadata={}, image_ref="", tags=objects.TagList())
        request = objects.BuildRequest(admin, instance_uuid=uuid, project_id="p", instance=instance, tags=objects.TagList(),
            block_device_mappings=objects.BlockDeviceMappingList())
        request.create()
        sent = objects.BuildRequest.get_by_instance_uuid(admin, uuid)
        instance = sent.get_new_instance(admin)
        if made:
            instance.create()
        return sent, instance

    def rename(made, name):
        seen = objects.BuildRequest.get_by_instance_uuid(admin, made.uuid).instance
        compute_api.API.update_instance(mock.Mock(), admin, seen, {"display_name": name, "hostname": name})

    conductor = manager.ComputeTaskManager.__new__(manager.ComputeTaskManager)
    conductor.notifier = mock.Mock()

    def end(sent, made):
        with mock.patch.object(manager, "obj_target_cell"), mock.patch.object(manager.compute_utils, "notify_about_instance_delete"):
            deleted = conductor._delete_build_request(admin, sent, made, None, [], objects.TagList())
        left = api_api.context_manager.reader.get_engine().connect().exec_driver_sql(
            "SELECT count(*) FROM build_requests WHERE instance_uuid = ?", (made.uuid,)).scalar()
        row = objects.Instance.get_by_uuid(admin, made.uuid) if deleted else made
        return [deleted, left, row.display_name, row.hostname, row.display_description]

    oslo_messaging.get_rpc_transport(nova.conf.CONF, "fake://")  # registers the option that mappings of cells read
    cell0 = objects.CellMapping(admin, uuid=objects.CellMapping.CELL0_UUID, name="cell0", transport_url="none:///",
        database_connection="")
    cell0.create()
    type(conductor).report_client = mock.Mock()

    def bury(sent, mapped=None):
        objects.InstanceMapping(admin, instance_uuid=sent.instance_uuid, project_id="p", cell_mapping=mapped).create()
        rest = ("_create_instance_action_for_cell0", "_set_vm_state_and_notify")
        with mock.patch.object(manager, "obj_target_cell"), mock.patch.multiple(conductor, **dict.fromkeys(rest, mock.Mock())):
            conductor._bury_in_cell0(admin, None, Exception("no host"), build_requests=[sent], tags=objects.TagList())
        left = api_api.context_manager.reader.get_engine().connect().exec_driver_sql(
            "SELECT count(*) FROM build_requests WHERE instance_uuid = ?", (sent.instance_uuid,)).scalar()
        found = objects.InstanceList.get_all(admin.elevated(read_deleted="yes"))
        return [left, *([row.display_name, row.deleted] for row in found if row.uuid == sent.instance_uuid)]

    def buried(name=None, deleted=False):
        sent, instance = scheduled(made=False)
        if name:
            rename(instance, name)
        if deleted:
            objects.BuildRequest.get_by_instance_uuid(admin, sent.instance_uuid).destroy()
        return bury(sent)

    def mapped_elsewhere():
        sent, instance = scheduled(made=False)
        rename(instance, "new")
        return bury(sent, mapped=cell0)

    def quiet():
        return end(*scheduled())

    def renamed():
        sent, made = scheduled()
        rename(made, "new")
        return end(sent, made)

    def renamed_while_it_is_carried():
        sent, made = scheduled()
        rename(made, "new")
        save, names = made.save, iter(["newer"])
        def saved(*arguments, **keywords):
            save(*arguments, **keywords)
            for name in names:
                rename(made, name)
        with mock.patch.object(type(made), "save", lambda self, *a, **k: saved(*a, **k) if self is made else objects_save(self, *a, **k)):
            return end(sent, made)
    objects_save = objects.Instance.save

    def deleted():
        sent, made = scheduled()
        objects.BuildRequest.get_by_instance_uuid(admin, made.uuid).destroy()
        return end(sent, made)[:2]

    tell({"quiet": quiet(), "renamed": renamed(), "deleted": deleted(),
          "buried": buried(), "buried, renamed": buried("new"), "buried, deleted": buried("new", deleted=True),
          "mapped": mapped_elsewhere(),
          **({"again": renamed_while_it_is_carried()} if sys.argv[1] == "ours" else {})})
"""
)


@pytest.fixture(scope="module")
def ours():
    return inside(CHANGED, "ours")


def test_upstream_loses_the_name():
    """If this fails, upstream has changed, and services/patches/nova/early_changes.py can go."""
    found = inside(CHANGED, "upstream")
    assert found["quiet"] == [True, 0, "old", "old", "d"]
    assert found["renamed"] == [True, 0, "old", "old", "d"]
    assert found["buried, renamed"] == [0, ["old", False]]


def test_the_server_has_the_name_that_was_accepted(ours):
    assert ours["quiet"] == [True, 0, "old", "old", "d"]
    assert ours["renamed"] == [True, 0, "new", "new", "d"]
    assert ours["again"] == [True, 0, "newer", "newer", "d"]


def test_a_server_for_which_no_host_was_found_has_the_name_that_was_accepted(ours):
    assert ours["buried"] == [0, ["old", False]]
    assert ours["buried, renamed"] == [0, ["new", False]]


def test_a_server_without_a_host_that_was_deleted_meanwhile_is_deleted(ours):
    assert ours["buried, deleted"] == [0, ["old", True]]


def test_a_server_that_a_cell_has_is_not_buried(ours):
    assert ours["mapped"] == [0]


def test_a_server_that_was_deleted_meanwhile_is_not_built(ours):
    assert ours["deleted"] == [False, 0]
