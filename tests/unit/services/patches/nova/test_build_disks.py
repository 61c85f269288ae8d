"""The disks of a new server during its build, with Nova's real resource tracker and database layer on SQLite."""

import pytest
from test_accepted_deletion import SERVERS
from upstream import inside

BUILDS = (
    SERVERS
    + """
    import sqlalchemy
    from nova.compute import resource_tracker
    from nova.objects import block_device

    if sys.argv[1] == "ours":
        from atoll.services.patches.nova import build_disks
        build_disks.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(" ".join(statement.split()))

    class Building(Host):
        # A host whose build asks for the server's disks, as the claim does, and ends as the test wants.
        def __init__(self, end):
            super().__init__()
            self.rt = resource_tracker.ResourceTracker("paris", mock.Mock(), reportclient=mock.Mock())
            self.end = end

        def _build_and_run_instance(self, context, instance, *_arguments, **_keywords):
            statements.clear()
            usage = self.rt._get_usage_dict(instance, instance)
            self.seen = [usage["root_gb"], sum("FROM block_device_mapping" in each for each in statements)]
            if self.end == "tracked":
                self.rt.tracked_instances.add(instance.uuid)
            elif self.end == "failed":
                raise exception.BuildAbortException(instance_uuid=instance.uuid, reason="for the test")

    def disk(instance, kind):
        made = block_device.BlockDeviceMapping(admin, instance_uuid=instance.uuid, source_type=kind, destination_type=
                                               "volume" if kind == "volume" else "local", boot_index=0, device_name="/dev/vda",
                                               volume_id="v" if kind == "volume" else None, image_id=None)
        made.create()
        return made

    def build(kind, end, send=True):
        instance = server(task_state=task_states.SCHEDULING)
        instance.flavor.root_gb = 5
        objects.InstanceAction.action_start(admin, instance.uuid, "create", want_result=False)
        disks = block_device.BlockDeviceMappingList(objects=[disk(instance, kind)])
        host = Building(end)
        for name in ("_log_original_error", "_cleanup_allocated_networks", "_cleanup_volumes", "_set_instance_obj_error_state",
                     "_nil_out_instance_obj_host_and_node", "_notify_about_instance_usage", "_build_failed", "_build_succeeded"):
            setattr(host, name, mock.Mock())
        sent = disks if send else None
        told = attempt(host._do_build_and_run_instance, admin, instance, {}, None, {}, None, None, [], None, sent, node="paris")
        return [told, host.seen, host.rt.is_bfv.get(instance.uuid)]

    tell({f"{kind}, {end}, {send}": build(kind, end, send) for kind in ("volume", "image") for end in ("tracked", "failed", "untracked")
          for send in (True, False)})
"""
)


@pytest.fixture(scope="module")
def ours():
    return inside(BUILDS, "ours")


@pytest.fixture(scope="module")
def stock():
    return inside(BUILDS, "stock")


def test_disks_of_the_request_are_not_read_again(ours, stock):
    for name, (told, (root_gb, reads), known) in ours.items():
        assert (told, root_gb) == (stock[name][0], 0 if name.startswith("volume") else 5)
        assert reads == (0 if name.endswith("True") else 1)
        assert known == (name.startswith("volume") if "tracked" in name.split(", ") else None)


def test_upstream_reads_them(stock):
    """If this fails, upstream takes them from the request, and the patch can go."""
    assert all(reads == 1 for _, (_, reads), _ in stock.values())
