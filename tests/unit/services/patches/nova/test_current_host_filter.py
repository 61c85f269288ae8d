"""The scheduler's filter for servers that are resized or migrated."""

from upstream import inside

FILTER = """
    from types import SimpleNamespace
    from unittest import mock
    from nova import config, exception, objects
    from nova.conf import CONF
    from nova.scheduler import filters
    objects.register_all()
    CONF([], project="nova", default_config_files=[])
    from atoll.services.nova import service
    from atoll.services.patches.nova import current_host_filter

    hosts = [SimpleNamespace(host=name) for name in ("paris", "edge")]
    spec = SimpleNamespace(instance_uuid="u")
    mapping = SimpleNamespace(cell_mapping=SimpleNamespace())
    passed = {}

    def passes(found, hosts=hosts):
        get = mock.Mock(side_effect=found) if isinstance(found, Exception) else mock.Mock(return_value=found)
        with mock.patch.object(objects.InstanceMapping, "get_by_instance_uuid", return_value=mapping), mock.patch.object(
            current_host_filter.context, "target_cell"
        ), mock.patch.object(objects.Instance, "get_by_uuid", get):
            return [host.host for host in current_host_filter.CurrentHostFilter().filter_all(iter(hosts), spec)], get.call_count

    def server(task_state, host="edge"):
        return SimpleNamespace(task_state=task_state, host=host)

    passed = {
        "resized": passes(server("resize_prep")),
        "migrated": passes(server("migrating")),
        "evacuated": passes(server("rebuilding")),
        "new": passes(exception.InstanceNotFound(instance_id="u")),
        "built": passes(server("scheduling", None)),
        "alone": passes(server("resize_prep"), hosts[:1]),
    }
    handler = filters.HostFilterHandler()
    found = handler.get_matching_classes(["atoll.services.patches.nova.current_host_filter.all_filters"])
    tell({
        "passed": passed,
        "default": list(service.FILTERS) == CONF.filter_scheduler.enabled_filters,
        "found": "CurrentHostFilter" in {each.__name__ for each in found},
    })
"""


def test_a_moving_server_stays_and_others_go_anywhere():
    told = inside(FILTER)
    assert told["passed"] == {
        "resized": [["edge"], 1],
        "migrated": [["edge"], 1],
        "evacuated": [["paris", "edge"], 1],
        "new": [["paris", "edge"], 1],
        "built": [["paris", "edge"], 1],
        "alone": [["paris"], 0],
    }
    assert told["default"], "upstream's default filters have changed"
    assert told["found"]
