"""Neutron, the network API of a site with its periodic workers, in one process."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from atoll.runtime.child import Child
from atoll.services import base, common, database_files, databases
from atoll.services.contract import DATABASE_SERVERS, Service, Settings
from atoll.services.database_urls import MARIADB
from atoll.services.ini import Sections, render
from atoll.services.neutron import network_services
from atoll.services.neutron.ml2ovs import configuration as ml2ovs
from atoll.services.neutron.ovn import agent as ovn_agent
from atoll.services.neutron.ovn import layout

ROUTER_PLUGINS = {"fake": "router", "ovn": "ovn-router", "ovs": "router"}
"""The plug-in of routers, by data plane. It comes first, because a plug-in that needs routers and finds none loads Neutron's own, with
agents.
"""

OWN_PLUGINS = ("given-id",)
"""Plug-ins of Atoll's API extensions, each in a package beside this module."""

TRAFFIC_PLUGINS = ("expanded-ports",)
"""Plug-ins of Atoll's API extensions that reduce control traffic."""


DEFAULT_RULES = "c33da356b165"
"""The migration that writes the rules of new security groups."""

EXTENSION_DRIVERS = ("port_security", "dns_domain_ports", "qos", "uplink_status_propagation")


MODULES = (
    "atoll.services.neutron.agentless.mechanism_driver",
    "atoll.services.neutron.expanded_ports.controllers",
    "atoll.services.neutron.given_id.plugin",
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
"""The modules that Neutron's fork server imports.

`portforwarding.pf_plugin` is not among them, because it reads at its import which router plug-in is configured.
"""


AGENT_MODULES = (
    "atoll.services.neutron.ovn.resolver",
    "neutron.agent.ovn.agent.ovn_neutron_agent",
    "neutron.agent.ovn.extensions.metadata",
    "neutron.conf.agent.ovn.ovn_neutron_agent.config",
)
"""Further modules that Neutron's fork server imports if OVN is installed, for Neutron's OVN agent."""


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
    names = (ROUTER_PLUGINS[settings.network], *network_services.plugins(settings), *OWN_PLUGINS)
    if settings.reduces_traffic:
        names += TRAFFIC_PLUGINS
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
            # libvirt creates the interfaces; upstream's ML2/OVS driver also sets this option if the switch is in user space.
            "ovs_create_tap": False,
            # With a single zone, guests of one router could not reach each other by floating IP.
            "ovn_router_indirect_snat": settings.two_zones,
            "dns_servers": layout.METADATA_ADDRESS,
        },
        **ovn_agent.configuration(settings),
    }


DATA_PLANES = {"fake": _fake_network, "ovn": _ovn, "ovs": ml2ovs.server}
"""Functions that return Neutron's options for each data plane."""


def _sections(data: Path, database: str) -> Sections:
    return {
        "DEFAULT": {
            "core_plugin": "ml2",
            "api_extensions_path": ":".join(str(path) for path in sorted(Path(__file__).parent.glob("*/extensions"))),
            "state_path": str(data),
            "api_paste_config": str(common.upstream_file("etc/neutron/api-paste.ini")),
            # No agent serves DHCP, so a port need not wait for one before it is up.
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
    """Import all of Neutron, and map its tables."""
    base.allow_eventlet()
    base.warm([*MODULES, *(AGENT_MODULES if shutil.which("ovn-controller") else ())])


def template(child: Child) -> None:
    """Make a template database with the schema."""
    database_files.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    _make_from_models(database_files.template_url(directory, "neutron"))
    database_files.checkpoint(directory / "neutron.db")


def _make_from_models(url: str) -> None:
    from neutron.db.migration.models import head
    from sqlalchemy import create_engine

    _make_tables(url)
    engine = create_engine(url)
    _fill_default_rules(engine, head.get_metadata())
    engine.dispose()


def make_schema(urls: Mapping[str, str]) -> None:
    """Make the schema of the database `neutron` at a server; sets options of the whole process.

    At MariaDB the migrations of Neutron and of all installed network services make it. They do not run at PostgreSQL: 6c5b8ed12b2a and
    later ones have statements of MySQL alone.

    Args:
        urls: the URL of the database, by its name.
    """
    from alembic import command

    if urls["neutron"].startswith("postgresql"):
        _make_from_models(urls["neutron"])
        return
    for config in _alembic(urls["neutron"], ["upgrade", "heads"]):
        command.upgrade(config, "heads")


def _alembic(url: str, words: list[str]) -> list[Any]:
    """Configure Alembic's part of Neutron for one command, and return the configuration of each project."""
    from neutron.db.migration import cli
    from oslo_config import cfg

    cfg.CONF([], project="neutron", default_config_files=[])
    cli.CONF(words, project="neutron", default_config_files=[])
    cli.CONF.set_override("connection", url, group="database")
    configs: list[Any] = cli.get_alembic_configs()
    return configs


def _make_tables(url: str) -> None:
    """Create Neutron's tables from its models and stamp them as migrated, because its migrations do not run on SQLite and PostgreSQL.

    This includes the tables of all installed network services, whether or not the site has these services now. Existing tables stay.
    """
    from alembic import command
    from neutron.db.migration.models import head
    from sqlalchemy import create_engine

    for name in network_services.models():
        importlib.import_module(name)
    engine = create_engine(url)
    head.get_metadata().create_all(engine)
    engine.dispose()
    for config in _alembic(url, ["stamp", "heads"]):
        command.stamp(config, "heads")


def _fill_default_rules(engine: Any, metadata: Any) -> None:
    """Insert the only rows that Neutron's migrations write: the rules of new security groups."""
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
    """Serve the network API, and run the periodic workers of its plug-ins, until the process is asked to stop."""
    from neutron import policy, server, service
    from neutron.server import api

    from atoll.services.patches.neutron import default_groups, missing_tags, start_time
    from atoll.services.wsgi import serve

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings)
    databases.prepare(settings, "neutron", ["neutron"], make_schema)
    _add_tables(settings)
    os.environ["OS_NEUTRON_CONFIG_DIR"] = str(settings.etc / "neutron")
    os.environ["OS_NEUTRON_CONFIG_FILES"] = "neutron.conf"
    if settings.network == "ovn":
        from atoll.services.neutron.ovn import ovsdb
        from atoll.services.patches.neutron import hash_ring, logged_groups, northbound_flush

        ovn_agent.prepare(settings)
        hash_ring.install()
        logged_groups.install()
        if settings.durable:
            northbound_flush.install(ovsdb.northbound(settings))
    elif settings.network == "ovs":
        from atoll.services.patches.neutron import agent_heartbeats

        agent_heartbeats.install()
    if settings.reduces_traffic:
        _reduce_statements(settings)
    with _own_signals(), start_time.own_start(settings):
        application = server.boot_server(api.api_server, prog="neutron-api")
    missing_tags.install()
    default_groups.install()
    # Otherwise the first request would load the rules, and concurrent requests would be refused by an incomplete set of rules.
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


def _reduce_statements(settings: Settings) -> None:
    """Install the patches with which Neutron executes fewer statements."""
    from atoll.services.patches.neutron import (
        default_group_lookup,
        empty_relations,
        joined_relations,
        kept_rows,
        known_segments,
        object_pushes,
        port_details,
        quota_reservations,
        subnet_revisions,
    )

    empty_relations.install()
    joined_relations.install()
    known_segments.install()
    subnet_revisions.install()
    default_group_lookup.install()
    port_details.install()
    if settings.network != "ovs" and not network_services.called_by_agents(settings):
        object_pushes.install()
    if settings.database("neutron").startswith("sqlite:"):
        quota_reservations.install()
        kept_rows.install()


def _add_tables(settings: Settings) -> None:
    """Add the tables of a network service that was installed after the database was created.

    Alembic's part of Neutron sets options of the whole process, so the tables are added in a process of its own.
    """
    if settings.shares or not network_services.stamps(settings):
        return  # the owner of a shared database has added them
    process = multiprocessing.get_context("fork").Process(target=_add_missing, args=(settings,))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the tables of a network service could not be created in neutron.db; the lines above say why")


def _add_missing(settings: Settings) -> None:
    from sqlalchemy import create_engine, inspect

    url = settings.database("neutron")
    engine = create_engine(url)
    there = set(inspect(engine).get_table_names())
    engine.dispose()
    if network_services.stamps(settings) <= there:
        return
    if settings.engine == MARIADB:
        make_schema({"neutron": url})
    else:
        _make_tables(url)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the handler of SIGTERM after the block: OVN's driver replaces it (`_setup_hash_ring`)."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _listener(workers: Iterable[Any]) -> Any:
    """Return a worker that answers agents over the bus as threads of this process; upstream uses processes (`_get_rpc_workers`).

    Args:
        workers: the plug-ins' workers, some of which listen by themselves.
    """
    from neutron import service
    from neutron_lib.plugins import directory

    listening = {id(plugin) for worker in workers if isinstance(worker, service.RpcWorker) for plugin in worker._plugins}
    plugins = [plugin for plugin in directory.get_unique_plugins() if id(plugin) not in listening]
    return service.RpcWorker(plugins, worker_process_count=0)


def _start_maintenance() -> None:
    """Start the periodic reconciliation of OVN's databases with Neutron's.

    Upstream runs it in a process of its own (`MaintenanceWorker`), because the API may have many processes. Here the API is one process,
    so the maintenance is a thread of this process. Its periodic tasks check that they hold OVN's lock, which is true if no lock is
    configured.
    """
    from neutron_lib.plugins import directory

    driver = directory.get_plugin().mechanism_manager.mech_drivers["ovn"].obj
    driver._start_maintenance_thread()


SERVICE = Service("neutron", __name__, configuration, listens=("network",), needs=("northd", "ovn-controller", *DATABASE_SERVERS))
