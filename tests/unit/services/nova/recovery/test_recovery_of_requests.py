"""Recovery of requests, over Nova's real objects and both of its database layers on SQLite."""

import pytest
from upstream import inside

CUT_SHORT = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import tempfile
    from pathlib import Path
    from types import SimpleNamespace
    from unittest import mock
    import nova.conf
    from nova import config, context, exception, objects
    from nova.compute import task_states, utils as compute_utils, vm_states
    from nova.conductor import manager
    from nova.db.api import api as api_db, models as api_models
    from nova.db.main import api, models
    from nova.scheduler import utils
    from nova.scheduler.client import report
    from oslo_utils import uuidutils
    from atoll.services.patches.nova import deleted_builds, failed_builds
    from atoll.services.nova.recovery import requests
    from atoll.services.nova.recovery.redelivery import Redelivery

    failed_builds.install()  # as service.py does, before requests are recovered
    deleted_builds.install()
    objects.register_all()
    root = Path(tempfile.mkdtemp())
    def url(name):
        return f"sqlite:///{root}/{name}.db?plugin=atoll"
    config.parse_args(["nova"], default_config_files=[], init_rpc=False)
    import oslo_messaging.transport
    conf = nova.conf.CONF
    conf.register_opts(oslo_messaging.transport._transport_opts)
    conf.set_override("connection", url("cell1"), "database")
    conf.set_override("connection", url("api"), "api_database")
    api.configure(conf)
    api_db.configure(conf)
    admin = context.get_admin_context()
    api_models.BASE.metadata.create_all(api_db.context_manager.writer.get_engine())
    cells = {}
    for name, uuid in (("cell0", objects.CellMapping.CELL0_UUID), ("cell1", "00000000-0000-0000-0000-000000000001")):
        cell = cells[name] = objects.CellMapping(admin, uuid=uuid, name=name, transport_url="none:///", database_connection=url(name),
                                                 disabled=False)
        cell.create()
        with context.target_cell(admin, cell) as targeted:
            models.BASE.metadata.create_all(api.get_context_manager(targeted).writer.get_engine())

    FLAVOR = dict(name="f", memory_mb=1, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0, rxtx_factor=1.0, flavorid="1", extra_specs={},
                  is_public=True, disabled=False, vcpu_weight=None, created_at=None, updated_at=None, deleted_at=None, deleted=False,
                  description=None)

    def instance(ctx, uuid, **more):
        fields = dict(uuid=uuid, project_id="p", user_id="u", vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, metadata={},
                      system_metadata={}, display_name="s", flavor=objects.Flavor(id=1, **FLAVOR))
        return objects.Instance(ctx, **(fields | more))

    def made(*, request=False, mapped=None, cell=None, specification=True, **more):
        uuid = uuidutils.generate_uuid()
        if specification:
            groups = objects.SecurityGroupList(objects=[])
            objects.RequestSpec(admin, instance_uuid=uuid, flavor=objects.Flavor(id=1, **FLAVOR), num_instances=1, image=None,
                                numa_topology=None, pci_requests=None, project_id="p", user_id="u", availability_zone=None,
                                instance_group=None, security_groups=groups, retry=None, limits=None, ignore_hosts=None,
                                force_hosts=None, force_nodes=None, requested_destination=None, scheduler_hints={}).create()
        if request:
            bare = instance(admin, uuid)
            objects.BuildRequest(admin, instance=bare, instance_uuid=uuid, project_id="p", tags=objects.TagList(objects=[]),
                                 block_device_mappings=objects.BlockDeviceMappingList(objects=[])).create()
        objects.InstanceMapping(admin, instance_uuid=uuid, project_id="p", user_id="u", queued_for_delete=False,
                                cell_mapping=cells[mapped] if mapped else None).create()
        if cell:
            with context.target_cell(admin, cells[cell]) as targeted:
                row = instance(targeted, uuid, **more)
                row.create()
        return uuid

    def deleted(**more):
        uuid = made(mapped="cell1", cell="cell1", **more)
        with context.target_cell(admin, cells["cell1"]) as targeted:
            objects.Instance.get_by_uuid(targeted, uuid).destroy()
        return uuid

    on_host = {"host": "paris", "node": "paris", "compute_id": 1}
    servers = {
        "recorded": made(request=True),
        "recorded, coming": made(request=True),
        "without a specification": made(request=True, specification=False),
        "in its cell": made(request=True, cell="cell1"),
        "in its cell, mapped": made(request=True, mapped="cell1", cell="cell1"),
        "in cell0": made(request=True, cell="cell0"),
        "without a host": made(mapped="cell1", cell="cell1"),
        "without a host, coming": made(mapped="cell1", cell="cell1"),
        "on a host": made(mapped="cell1", cell="cell1", **on_host),
        "active": made(mapped="cell1", cell="cell1", vm_state=vm_states.ACTIVE, task_state=None, **on_host),
        "deleting": made(mapped="cell1", cell="cell1", vm_state=vm_states.ACTIVE, task_state=task_states.DELETING, **on_host),
        "deleted": deleted(),
        "request deleted": made(),
        "request deleted, coming": made(),
    }
    redelivery = Redelivery(tuple(uuid.encode() for name, uuid in servers.items() if name.endswith("coming")))
    released = []
    client = SimpleNamespace(delete_allocation_for_instance=lambda _context, uuid, force: released.append(uuid) or True)

    def settled(sharing=()):
        with mock.patch.object(report, "report_client_singleton", lambda: client), \\
                mock.patch.object(manager.ComputeTaskManager, "__init__", lambda self: setattr(self, "host", "paris")), \\
                mock.patch.object(compute_utils, "notify_about_compute_task_error"), mock.patch.object(utils.rpc, "get_notifier"):
            requests.recover(SimpleNamespace(transport_url="zenoh:///", data=root, sharing=sharing), redelivery)

    def held(uuid):
        try:
            mapping = objects.InstanceMapping.get_by_instance_uuid(admin, uuid)
        except exception.InstanceMappingNotFound:
            return None
        cell = mapping.cell_mapping
        row = None
        if cell:
            with context.target_cell(admin, cell) as targeted:
                try:
                    found = objects.Instance.get_by_uuid(targeted, uuid)
                    fault = objects.InstanceFault.get_latest_for_instance(targeted, uuid)
                    row = [found.vm_state, found.task_state, bool(fault)]
                except exception.InstanceNotFound:
                    row = None
        building = uuid in {each.instance_uuid for each in objects.BuildRequestList.get_all(admin)}
        return [cell.name if cell else None, row, "building" if building else "", bool(mapping.queued_for_delete)]

    settled(sharing=("paris", "lyon"))
    shared = {name: held(uuid) for name, uuid in servers.items()}
    found = []
    for _start in range(2):
        settled()
        found.append({name: held(uuid) for name, uuid in servers.items()})
    tell({"shared": shared, "first": found[0], "second": found[1],
          "released": sorted(name for name, uuid in servers.items() if uuid in released)})
"""

ERROR = ["error", None, True]


@pytest.fixture(scope="module")
def found():
    return inside(CUT_SHORT)


@pytest.mark.parametrize("name", ["recorded", "without a specification", "in cell0"])
def test_a_build_that_the_conductor_had_begun_fails(found, name):
    assert found["first"][name] == ["cell0", ERROR, "", False]


@pytest.mark.parametrize("name", ["in its cell", "in its cell, mapped", "without a host"])
def test_a_server_without_a_host_that_nobody_builds_fails_in_its_cell(found, name):
    assert found["first"][name] == ["cell1", ERROR, "", False]


def test_redelivered_requests_are_left_alone(found):
    assert found["first"]["recorded, coming"] == [None, None, "building", False]
    assert found["first"]["without a host, coming"] == ["cell1", ["building", "scheduling", False], "", False]
    assert found["first"]["request deleted, coming"] == [None, None, "", False]


def test_servers_that_nova_compute_recovers_are_left_alone(found):
    assert found["first"]["on a host"] == ["cell1", ["building", "scheduling", False], "", False]
    assert found["first"]["active"] == ["cell1", ["active", None, False], "", False]


def test_another_site_of_a_shared_nova_may_be_carrying_young_requests_out(found):
    assert found["shared"]["recorded"] == [None, None, "building", False]
    assert found["shared"]["without a host"] == ["cell1", ["building", "scheduling", False], "", False]
    assert found["shared"]["request deleted"] == [None, None, "", False]


def test_deleted_servers_use_no_quota(found):
    assert found["first"]["deleting"] == ["cell1", ["active", "deleting", False], "", True]
    assert found["first"]["deleted"] == ["cell1", None, "", True]
    assert found["first"]["request deleted"] is None


def test_allocations_of_what_has_no_server_are_released(found):
    assert found["released"] == ["recorded", "request deleted", "without a specification"]


def test_a_second_start_finds_nothing_to_do(found):
    assert found["second"] == found["first"]
