"""Functions and internals of Neutron that services/neutron/service.py uses."""

from upstream import inside


def test_upstream_has_what_run_uses():
    found = inside(
        """
        from atoll.services import base
        base.preload()
        base.allow_eventlet()
        from neutron import server, service
        from neutron.server import api
        tell({
            "skipped": [kind.__name__ for kind in service._PERIODIC_WORKER_SKIP_TYPES],
            "callable": all(map(callable, (service._get_plugins_workers, server.boot_server, api.api_server))),
            "eventlet": "eventlet" in sys.modules and bool(sys.modules["eventlet"].patcher.already_patched),
        })
        """
    )
    assert found == {"skipped": ["MaintenanceWorker", "AllServicesNeutronWorker"], "callable": True, "eventlet": False}


MAKE = """
    directory = sys.argv[1]
    import sqlite3
    from contextlib import closing
    from pathlib import Path
    from atoll.services import base
    from atoll.services.neutron import service as neutron
    base.preload()
    base.allow_eventlet()
    neutron._make_template(Path(directory))
    with closing(sqlite3.connect(f"{directory}/neutron.db")) as database:
        columns = "direction, ethertype, remote_group_id, used_in_default_sg, used_in_non_default_sg"
        tell(database.execute(f"select {columns} from securitygroupdefaultrules").fetchall())
"""


def test_new_security_groups_have_upstreams_rules(tmp_path):
    found = {tuple(rule) for rule in inside(MAKE, str(tmp_path))}
    assert found == {
        *(("egress", kind, None, 1, 1) for kind in ("IPv4", "IPv6")),
        *(("ingress", kind, "PARENT", 1, 0) for kind in ("IPv4", "IPv6")),
    }
