"""Neutron: the network API of a site and its periodic workers, in one process."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from atoll.files import make_directory
from atoll.runtime.child import Child
from atoll.services import base, common, network_services
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.ml2ovs import configuration as ml2ovs
from atoll.services.ovn import agent as ovn_agent
from atoll.services.ovn import layout

ROUTER_PLUGINS = {"fake": "router", "ovn": "ovn-router", "ovs": "router"}
"""The plugin that makes routers, by data plane. It comes first: whatever needs one and finds none has Neutron load its own, with agents."""

OWN_PLUGIN = "given-id"
"""What is brought from another site keeps its id; see services/neutron_import."""

DEFAULT_RULES = "c33da356b165"
"""The migration that writes the rules of new security groups."""

EXTENSION_DRIVERS = ("port_security", "dns_domain_ports", "qos", "uplink_status_propagation")


MODULES = (
    "atoll.services.ml2_agentless",
    "atoll.services.neutron_import",
    "neutron.api.v2.router",
    "neutron.conf.policies.*",
    "neutron.db.migration.models.head",
    "neutron.db.quota.driver_nolock",
    "neutron.ipam.drivers.neutrondb_ipam.driver",
    "neutron.notifiers.nova",
    "neutron.pecan_wsgi.hooks.*",
    "neutron.pecan_wsgi.startup",
    "neutron.plugins.ml2.drivers.ovn.mech_driver.mech_driver",
    "neutron.plugins.ml2.drivers.type_flat",
    "neutron.plugins.ml2.drivers.type_geneve",
    "neutron.plugins.ml2.drivers.type_local",
    "neutron.plugins.ml2.drivers.type_vlan",
    "neutron.plugins.ml2.extensions.*",
    "neutron.plugins.ml2.plugin",
    "neutron.scheduler.l3_agent_scheduler",
    "neutron.server.api",
    "neutron.service",
    "neutron.services.auto_allocate.plugin",
    "neutron.services.flavors.flavors_plugin",
    "neutron.services.l3_router.l3_router_plugin",
    "neutron.services.l3_router.service_providers.*",
    "neutron.services.metering.metering_plugin",
    "neutron.services.ovn_l3.plugin",
    "neutron.services.trunk.plugin",
    "neutron.services.network_ip_availability.plugin",
    "neutron.services.qos.qos_plugin",
    "neutron.services.revisions.revision_plugin",
    "neutron.services.segments.plugin",
    "neutron.services.tag.tag_plugin",
    "neutron.services.timestamp.timestamp_plugin",
    "novaclient.v2.*",
)
"""What the fork server imports. Not `portforwarding.pf_plugin`: it asks, when it is imported, which router plugin is configured."""


AGENT_MODULES = (
    "atoll.services.ovn.resolver",
    "neutron.agent.ovn.agent.ovn_neutron_agent",
    "neutron.agent.ovn.extensions.metadata",
    "neutron.conf.agent.ovn.ovn_neutron_agent.config",
)
"""What it imports besides where OVN is installed, for Neutron's agent beside that."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render neutron.conf; the paste file is upstream's own."""
    here: Sections = {
        "DEFAULT": {"notify_nova_on_port_status_changes": True, "notify_nova_on_port_data_changes": True, "host": settings.site},
        "nova": {**common.client(settings, "nova"), "endpoint_type": "internal"},
        "placement": {**common.client(settings, "placement"), "endpoint_type": "internal"},
    }
    sections = _sections(settings.data, settings.database("neutron"))
    shared = (common.logging(settings), common.bus(settings), common.authtoken(settings, "neutron"))
    data_plane = DATA_PLANES[settings.network](settings)
    return {"neutron/neutron.conf": render(*shared, sections, data_plane, *_plugins(settings), here), **common.policies("neutron")}


def _plugins(settings: Settings) -> list[Sections]:
    names = (ROUTER_PLUGINS[settings.network], *network_services.plugins(settings), OWN_PLUGIN)
    drivers = (*EXTENSION_DRIVERS, *network_services.extension_drivers(settings))
    here: Sections = {"DEFAULT": {"service_plugins": names}, "ml2": {"extension_drivers": drivers}}
    return [here, *network_services.configuration(settings)]


def _fake_network(_settings: Settings) -> Sections:
    return {"ml2": {"mechanism_drivers": "agentless"}}


def _ovn(settings: Settings) -> Sections:
    database = layout.database(settings)
    return {
        "ml2": {"mechanism_drivers": "ovn"},
        "ml2_type_vlan": {"network_vlan_ranges": f"{layout.PHYSICAL_NETWORK}:1:4094"},
        "ovn": {
            "ovn_nb_connection": database,
            "ovn_sb_connection": database,
            "ovn_metadata_enabled": True,
            # libvirt makes the interfaces; upstream's ML2/OVS driver asks for this too where the switch is in user space.
            "ovs_create_tap": False,
            # Upstream's default; with a single zone, guests of one router would not reach one another by floating IP.
            "ovn_router_indirect_snat": settings.two_zones,
            "dns_servers": layout.METADATA_ADDRESS,
        },
        **ovn_agent.configuration(settings),
    }


DATA_PLANES = {"fake": _fake_network, "ovn": _ovn, "ovs": ml2ovs.server}
"""What Neutron is told besides, by what carries packets."""


def _sections(data: Path, database: str) -> Sections:
    return {
        "DEFAULT": {
            "core_plugin": "ml2",
            "api_extensions_path": str(Path(__file__).parent / "neutron_import"),
            "state_path": str(data),
            "api_paste_config": str(common.upstream_file("etc/neutron/api-paste.ini")),
            # No agent serves DHCP here: a port need not wait for one before it is up.
            "dhcp_agent_notification": False,
            "dns_domain": "atoll.internal.",
            "global_physnet_mtu": 1500,
            "rpc_workers": 0,
        },
        "database": {"connection": database},
        "quotas": {"quota_network": 100, "quota_subnet": 100, "quota_port": 1000, "quota_router": 50, "quota_floatingip": 100},
        "ml2": {
            "type_drivers": "local,flat,vlan,geneve",
            "project_network_types": "geneve",
        },
        "ml2_type_flat": {"flat_networks": "*"},
        "ml2_type_vlan": {"network_vlan_ranges": "public:1:4094"},
        "ml2_type_geneve": {"vni_ranges": "1:4094", "max_header_size": 38},
        "oslo_messaging_notifications": {"driver": "noop"},
    }


def preload() -> None:
    """Import Neutron whole, and map its tables."""
    base.allow_eventlet()
    base.warm([*MODULES, *(AGENT_MODULES if shutil.which("ovn-controller") else ())])


def template(child: Child) -> None:
    """Make the schema."""
    common.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    from neutron.db.migration.models import head
    from sqlalchemy import create_engine

    url = common.template_database(directory, "neutron")
    _make_tables(url)
    engine = create_engine(url)
    _fill_default_rules(engine, head.get_metadata())
    engine.dispose()
    common.checkpoint(directory / "neutron.db")


def _make_tables(url: str) -> None:
    """Neutron's migrations do not run on SQLite, so the tables come from its models and are stamped as migrated.

    Those of the network services that are installed are among them, whichever of them a site has now. What is there already stays.
    """
    from alembic import command
    from neutron.db.migration import cli
    from neutron.db.migration.models import head
    from oslo_config import cfg
    from sqlalchemy import create_engine

    for name in network_services.models():
        importlib.import_module(name)
    engine = create_engine(url)
    head.get_metadata().create_all(engine)
    engine.dispose()
    cfg.CONF([], project="neutron", default_config_files=[])
    cli.CONF(["stamp", "heads"], project="neutron", default_config_files=[])
    cli.CONF.set_override("connection", url, group="database")
    for config in cli.get_alembic_configs():
        command.stamp(config, "heads")


def _fill_default_rules(engine: Any, metadata: Any) -> None:
    """The only rows that Neutron's migrations write: the rules that each security group begins with."""
    import runpy

    from neutron.db import migration
    from sqlalchemy import insert

    [path] = Path(migration.__file__).parent.glob(f"alembic_migrations/versions/*/expand/{DEFAULT_RULES}_*.py")
    upstream = runpy.run_path(str(path))
    attributes, rules = (metadata.tables[name] for name in ("standardattributes", upstream["table_name"]))
    with engine.begin() as connection:
        for rule in upstream["default_template_rules"]:
            about = {"resource_type": upstream["table_name"], "description": rule.pop("description")}
            [attribute] = connection.execute(insert(attributes).values(about)).inserted_primary_key
            connection.execute(insert(rules).values(standard_attr_id=attribute, **rule))


def run(child: Child) -> None:
    """Serve the network API, and run what its plugins do from time to time."""
    from neutron import policy, server, service
    from neutron.server import api

    from atoll.services import default_groups, tags_of_nothing
    from atoll.services.wsgi import serve

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings)
    common.databases(settings, "neutron", ["neutron"])
    _add_tables(settings)
    os.environ["OS_NEUTRON_CONFIG_DIR"] = str(settings.etc / "neutron")
    os.environ["OS_NEUTRON_CONFIG_FILES"] = "neutron.conf"
    if settings.network == "ovn":
        from atoll.services.ovn import events, logged_groups, northbound_flush, ovsdb

        ovn_agent.prepare(settings)
        events.install()
        logged_groups.install()
        if settings.durable:
            northbound_flush.install(ovsdb.northbound(settings))
    elif settings.network == "ovs":
        from atoll.services.ml2ovs import steady_agents

        steady_agents.install()
    with _own_signals(), _own_start(settings):
        application = server.boot_server(api.api_server, prog="neutron-api")
    tags_of_nothing.install()
    default_groups.install()
    # Else the first request would do it, and others at the same time would be judged by half of the rules and refused.
    policy.init()
    if settings.network == "ovn":
        _start_maintenance()
    workers = [worker for worker in service._get_plugins_workers() if not isinstance(worker, service._PERIODIC_WORKER_SKIP_TYPES)]
    if network_services.called_by_agents(settings):
        workers.append(_listener(workers))
    for worker in workers:
        worker.start()
    with ovn_agent.serving(settings) if settings.network == "ovn" else nullcontext():
        serve(child, application)
    for worker in workers:
        worker.stop()


def _add_tables(settings: Settings) -> None:
    """Give a database that was made before a network service was installed the tables of that.

    In a process of its own: Alembic's part of Neutron sets options of the whole process.
    """
    with closing(sqlite3.connect(settings.data / "neutron.db")) as database:
        there = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    if network_services.stamps(settings) <= there:
        return
    process = multiprocessing.get_context("fork").Process(target=_make_tables, args=(settings.database("neutron"),))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the tables of a network service could not be made")


@contextmanager
def _own_signals() -> Iterator[None]:
    """OVN's driver has a handler called on SIGTERM (`_setup_hash_ring`), in place of the one that ends this process."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@contextmanager
def _own_start(settings: Settings) -> Iterator[None]:
    """Processes of one parent share the moment of their start through a file in the directory for temporary files.

    (`get_start_time` of neutron/common/wsgi_utils.py.) Here all sites' have one parent, which outlives them: each start is one of its own.
    """
    was = tempfile.tempdir
    make_directory(settings.sockets)  # the first process of a site makes it, and that may be this one
    with tempfile.TemporaryDirectory(dir=settings.sockets) as directory:
        tempfile.tempdir = directory
        yield
        tempfile.tempdir = was


def _listener(workers: Iterable[Any]) -> Any:
    """What agents ask Neutron over the bus, as threads of this process; upstream has processes of their own for it (`_get_rpc_workers`).

    Args:
        workers: those of the plugins, some of which listen by themselves.
    """
    from neutron import service
    from neutron_lib.plugins import directory

    listening = {id(plugin) for worker in workers if isinstance(worker, service.RpcWorker) for plugin in worker._plugins}
    plugins = [plugin for plugin in directory.get_unique_plugins() if id(plugin) not in listening]
    return service.RpcWorker(plugins, worker_process_count=0)


def _start_maintenance() -> None:
    """Put right from time to time what OVN's databases and Neutron's don't agree on.

    Upstream does it in a process of its own (`MaintenanceWorker`), for API processes may be many. Here is one, so it can be a thread there;
    its periodic tasks ask whether they hold the lock, which is so when there is none.
    """
    from neutron_lib.plugins import directory

    driver = directory.get_plugin().mechanism_manager.mech_drivers["ovn"].obj
    driver._start_maintenance_thread()


SERVICE = Service("neutron", __name__, configuration, listens=("network",), needs=("northd", "ovn-controller"))
