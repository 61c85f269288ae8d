"""Mappings of servers that were deleted before they were built, with upstream's real conductor and objects."""

import pytest
from upstream import inside

DELETED = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from types import SimpleNamespace
    from unittest import mock
    from nova import context, exception, objects
    objects.register_all()
    from nova.conductor import manager
    from nova.objects import instance_mapping
    from nova.scheduler.client import report
    from atoll.services.patches.nova import deleted_builds

    UUID = "11111111-1111-1111-1111-111111111111"
    admin = context.get_admin_context()

    class Placement:
        def __init__(self, events, error=None, answer=True):
            self.events, self.error, self.answer = events, error, answer
        def delete_allocation_for_instance(self, _context, uuid, force):
            self.events.append(f"release {uuid == UUID} {force}")
            if self.error:
                raise self.error
            return self.answer

    def mapping(cell):
        return instance_mapping.InstanceMapping(admin, instance_uuid=UUID, cell_mapping=cell)

    def destroyed(cell=None, **placement):
        events = []
        with mock.patch.object(report, "report_client_singleton", lambda: Placement(events, **placement)), \\
                mock.patch.object(instance_mapping.InstanceMapping, "_destroy_in_db", lambda *_arguments: events.append("mapping")):
            mapping(cell).destroy()
        return events

    def conducted():
        # A server whose request to build it is gone when the scheduler has chosen a host.
        events = []
        conductor = manager.ComputeTaskManager.__new__(manager.ComputeTaskManager)
        conductor._schedule_instances = lambda *_arguments, **_keywords: [[SimpleNamespace(service_host="host", nodename="host")]]
        conductor._recheck_quota = lambda *_arguments, **_keywords: None
        instance = SimpleNamespace(uuid=UUID, flavor=None, project_id="p", user_id="u", access_ip_v4=None)
        request = SimpleNamespace(get_new_instance=lambda _context: instance, instance_uuid=UUID)
        gone = mock.Mock(side_effect=exception.BuildRequestNotFound(uuid=UUID))
        with mock.patch.object(report, "report_client_singleton", lambda: Placement(events)), \\
                mock.patch.object(instance_mapping.InstanceMapping, "_destroy_in_db", lambda *_arguments: events.append("mapping")), \\
                mock.patch.object(objects.InstanceMapping, "get_by_instance_uuid", lambda *_arguments: mapping(None)), \\
                mock.patch.object(objects.HostMapping, "get_by_host"), \\
                mock.patch.object(objects.BuildRequest, "get_by_instance_uuid", gone), \\
                mock.patch.object(manager, "obj_target_cell", mock.MagicMock()):
            conductor.schedule_and_build_instances(
                admin, [request], [SimpleNamespace(instance_uuid=UUID)], None, None, [], None, [objects.BlockDeviceMappingList()]
            )
        return events

    found = {"upstream": conducted()}
    deleted_builds.install()
    found["ours"] = conducted()
    found["in a cell"] = destroyed(objects.CellMapping())
    found["placement fails"] = destroyed(error=OSError())
    found["placement is away"] = destroyed(answer=None)
    found["no allocation"] = destroyed(answer=False)
    tell(found)
"""


@pytest.fixture(scope="module")
def found():
    return inside(DELETED)


def test_upstream_deletes_the_mapping_first(found):
    """If this fails, upstream has changed, and services/patches/nova/deleted_builds.py can go."""
    assert found["upstream"] == ["mapping", "release True True"]


def test_allocations_are_released_before_the_mapping_is_deleted(found):
    assert found["ours"][:2] == ["release True True", "mapping"]


def test_a_server_in_a_cell_keeps_its_allocations(found):
    assert found["in a cell"] == ["mapping"]


@pytest.mark.parametrize("case", ["placement fails", "placement is away"])
def test_the_mapping_stays_if_placement_does_not_release(found, case):
    """The next start of Nova finds the mapping, and tries again (`services.nova.recovery.requests`)."""
    assert found[case] == ["release True True"]


def test_the_mapping_is_deleted_if_there_was_no_allocation(found):
    assert found["no allocation"] == ["release True True", "mapping"]
