"""What services/neutron.py repeats of upstream's start-up code is still what upstream does."""

from upstream import check, fingerprint, inside


def test_periodic_workers_start_as_we_start_them():
    known = {
        ("neutron/service.py", "_get_plugins_workers"): "207f38fd",
        ("neutron/service.py", "_prepare_periodic_workers"): "f6578606",
        ("neutron/service.py", "start_periodic_workers"): "a321c82e",
        ("neutron/service.py", "AllServicesNeutronWorker.start"): "786fe991",
        ("neutron/worker.py", "NeutronBaseWorker"): "a44363a3",
    }
    check("neutron", known, "services/neutron.py `run` starts the plugins' workers as threads of its own process")


def test_server_starts_as_we_start_it():
    known = {
        ("neutron/server/__init__.py", "_get_config_files"): "7072a70b",
        ("neutron/server/__init__.py", "_init_configuration"): "dae76fe6",
        ("neutron/server/__init__.py", "boot_server"): "516e148b",
        ("neutron/server/api.py", "api_server"): "6f479a92",
        ("neutron/policy.py", "init"): "0963d5c4",
    }
    check("neutron", known, "services/neutron.py `run` calls it")


def test_schema_is_made_as_we_make_it():
    known = {("neutron/db/migration/cli.py", "get_alembic_configs"): "423456be", ("neutron/db/migration/cli.py", "do_stamp"): "a24dcada"}
    check("neutron", known, "services/neutron.py `_make_template` stamps what it has made from the models")
    assert fingerprint("neutron", "neutron/db/migration/models/head.py", "get_metadata")


def test_agents_are_answered_as_upstream_answers_them():
    known = {("neutron/service.py", "_get_rpc_workers"): "8bea0ae2", ("neutron/service.py", "RpcWorker.start"): "65b060b5"}
    check("neutron", known, "services/neutron.py `_listeners` makes the same, as threads")


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
    from atoll.services import base, neutron
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
