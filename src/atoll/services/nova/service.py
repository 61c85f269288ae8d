"""Nova: both APIs, the conductor, the scheduler and nova-compute of a site, in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from atoll.files import write_private
from atoll.runtime.child import Child
from atoll.services import base, common, database_files, databases
from atoll.services.contract import DATABASE_SERVERS, LOOPBACK, Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.neutron.ovn import layout
from atoll.services.nova import cells, libvirtd, zones
from atoll.services.nova.recovery import requests
from atoll.services.nova.recovery.redelivery import Redelivery
from atoll.services.nova.synthesis import overlays

FLAVORS = (("m1.nano", 64, 1, 1), ("m1.tiny", 512, 1, 1), ("m1.small", 2048, 1, 20), ("m1.medium", 4096, 2, 40), ("m1.large", 8192, 4, 80))
"""Name, RAM in MiB, VCPUs and disk in GiB of the default flavors, which have DevStack's names, so that published examples work."""

FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)
"""Upstream's default filters of the scheduler."""

MODULES = (
    "atoll.services.patches.nova.expanded_ports",
    "atoll.services.patches.nova.fake_hypervisor",
    "atoll.services.patches.nova.current_host_filter",
    "nova.api.auth",
    "nova.api.compute_req_id",
    "nova.api.metadata.handler",
    "nova.api.openstack.compute",
    "nova.api.openstack.requestlog",
    "nova.api.openstack.urlmap",
    "nova.api.openstack.wsgi_app",
    "nova.compute.manager",
    "nova.compute.monitors.cpu.*",
    "nova.conductor.manager",
    "nova.db.api.models",
    "nova.db.main.models",
    "nova.scheduler.filters.*",
    "nova.scheduler.manager",
    "nova.scheduler.weights.*",
    "nova.servicegroup.drivers.db",
    "nova.virt.fake",
)
"""The modules that Nova's fork server imports."""

DATABASES = ("nova_api", "nova_cell0", "nova_cell1")
"""The names of Nova's databases."""

GUEST_MODULES = (
    "atoll.services.patches.nova.disk_flush",
    "atoll.services.patches.nova.guest_driver",
    "atoll.services.patches.nova.image_check",
    "atoll.services.patches.nova.kept_memory",
    "atoll.services.patches.nova.overlay_images",
    "atoll.services.patches.nova.resumed_guests",
    "nova.virt.libvirt.driver",
    "nova.virt.libvirt.volume.volume",
    "vif_plug_ovs.ovs",
    "vif_plug_ovs.ovsdb.impl_idl",
)
"""Further modules that Nova's fork server imports if libvirt is installed."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render nova.conf; the paste file is upstream's own."""
    here: Sections = {
        "DEFAULT": {"default_availability_zone": settings.site, **zones.default(settings)},
        "api": {"local_metadata_per_cell": False, "response_validation": common.VALIDATION},
        "neutron": {"service_metadata_proxy": True, "metadata_proxy_shared_secret": settings.secrets["metadata"]},
        "filter_scheduler": {
            "available_filters": "atoll.services.patches.nova.current_host_filter.all_filters",
            "enabled_filters": (*FILTERS, "CurrentHostFilter"),
        },
    }
    databases = _databases(settings.database("nova_api"), settings.database("nova_cell1"))
    return {"nova/nova.conf": render(*compute(settings), common.authtoken(settings, "nova"), databases, here), **common.policies("nova")}


def compute(settings: Settings) -> tuple[Sections, ...]:
    """Return the options of nova-compute, at a full site or a compute site."""
    own: Sections = {
        "DEFAULT": {
            "host": settings.site,
            "my_ip": settings.own_address,
            "state_path": str(settings.data),
            "instances_path": str(settings.data / "instances"),
            # Resizing on the only host of a site is still resizing.
            "allow_resize_to_same_host": True,
            "executor_thread_pool_size": 16,
            # Upstream's defaults, and the properties that call an image an overlay or a base: a snapshot is a complete disk.
            "non_inheritable_image_properties": ("cache_in_nova", "bittorrent", *overlays.PROPERTIES),
        },
        # One process runs all of Nova.
        "cache": {"enabled": True, "backend": "oslo_cache.dict", "expiration_time": 600},
        "workarounds": {"skip_cpu_compare_on_dest": True},
        "oslo_messaging_notifications": {"driver": "noop"},
    }
    others: Sections = {
        "service_user": {**common.credentials(settings, "nova"), "send_service_user_token": True},
        "placement": {**common.client(settings, "placement"), **common.endpoint(settings, "placement"), "valid_interfaces": "internal"},
        "neutron": {**common.client(settings, "neutron"), **common.endpoint(settings, "network"), "valid_interfaces": "internal"},
        "glance": {
            **common.certificate(settings),
            "valid_interfaces": "internal",
            # Each of the sites that share Nova has images of its own; the gateway finds an image at any of them.
            "endpoint_override": settings.public_url("image") if settings.sharing else settings.url("image"),
            "region_name": settings.region,
        },
    }
    hypervisor = _fake_guests() if settings.hypervisor == "fake" else _guests(settings)
    return common.logging(settings), common.bus(settings), own, hypervisor, others


def _fake_guests() -> Sections:
    return {
        "DEFAULT": {
            "compute_driver": "fake.RestoredFakeDriver",
            # Nothing plugs the fake driver's ports, so no event reports that they were plugged.
            "vif_plugging_timeout": 0,
            "vif_plugging_is_fatal": False,
        }
    }


def _guests(settings: Settings) -> Sections:
    return {
        "DEFAULT": {
            "compute_driver": "libvirt.GuestDriver",
            "vif_plugging_timeout": 60,
            # Guests continue without nova-compute, which recovers its tasks from their task states at its next start.
            "manager_shutdown_timeout": 2,
            # Guests that ran before a power cut run after it.
            "resume_guests_state_on_host_boot": True,
            # A site is small, and the memory of its own processes is counted separately.
            "reserved_host_memory_mb": 512,
            # Disks are sparse: a guest uses less than its disk's size.
            "disk_allocation_ratio": 4.0,
        },
        # A site has one host, and another attempt would hide the reason of the failure.
        "scheduler": {"max_attempts": 1},
        "libvirt": {
            "virt_type": settings.hypervisor,
            "connection_uri": libvirtd.uri(settings),
            "images_type": "qcow2",
        },
        "os_vif_ovs": {"ovsdb_connection": layout.database(settings)},
        **_consoles(settings),
    }


def _consoles(settings: Settings) -> Sections:
    """Return the options of consoles.

    QEMU asks for no password, so it listens on loopback alone, where the gateway connects to it; see docs/guests.md.
    """
    page = f"/console/vnc/vnc_lite.html?path=console/{settings.site}/vnc"
    return {
        "vnc": {
            "server_listen": LOOPBACK,
            "server_proxyclient_address": LOOPBACK,
            "novncproxy_base_url": settings.url("gateway", page),
        },
        "serial_console": {
            "enabled": True,
            "base_url": settings.url("gateway", f"/console/{settings.site}/serial").replace("http:", "ws:", 1),
            "proxyclient_address": LOOPBACK,
        },
        "spice": {"enabled": False},
    }


def _databases(api_database: str, database: str) -> Sections:
    return {
        "database": {"connection": database},
        "api_database": {"connection": api_database},
        # Hosts are mapped when they start, so no periodic task needs to discover them.
        "scheduler": {"discover_hosts_in_cells_interval": -1},
        # Default quotas for a project of the site's own users; upstream's ten servers suit a shared public cloud.
        "quota": {"instances": 200, "cores": 400, "ram": 1024 * 1024, "server_groups": 50, "key_pairs": 200},
    }


def preload() -> None:
    """Import all of Nova, and map its tables."""
    from nova import monkey_patch

    monkey_patch.patch(backend="threading")
    base.warm([*MODULES, *(GUEST_MODULES if find_spec("libvirt") else ())])

    from nova import objects

    objects.register_all()


def template(child: Child) -> None:
    """Make template databases with the schemas of the API database and of the two cells."""
    database_files.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    urls = {name: database_files.template_url(directory, name) for name in DATABASES}
    make_schema(urls)
    for name in urls:
        database_files.checkpoint(directory / f"{name}.db")


def make_schema(urls: Mapping[str, str]) -> None:
    """Make the schemas of the API database and of the two cells by Nova's migrations; sets options of the whole process.

    Args:
        urls: the URLs of `DATABASES`, by name.
    """
    import nova.conf
    from nova import config, context
    from nova.db import migration

    with common.written(render(_databases(urls["nova_api"], urls["nova_cell1"]))) as conf:
        config.parse_args(["nova-manage"], default_config_files=[str(conf)], init_rpc=False, prog="nova-manage")
    migration.db_sync(database="api")
    migration.db_sync(database="main")
    admin = context.get_admin_context()
    cell0 = nova.objects.CellMapping(context=admin, uuid=nova.objects.CellMapping.CELL0_UUID, transport_url="none:///", name="cell0")
    cell0.database_connection = urls["nova_cell0"]
    with context.target_cell(admin, cell0) as targeted:
        migration.db_sync(database="main", context=targeted)


def run(child: Child) -> None:
    """Serve the compute and the metadata API, and run the conductor, the scheduler and the compute manager beside them."""
    from atoll.services.patches.nova import recovering_manager
    from atoll.services.wsgi import serve

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings, "instances")
    databases.prepare(settings, "nova", DATABASES, make_schema)
    identify(settings.data / "compute_id")
    _configure(settings)
    redelivery = Redelivery.configured()
    recovering_manager.prepare(redelivery, child.starting)
    cells.map_cells(settings)
    _make_flavors()
    requests.recover(settings, redelivery)
    conductor, scheduler, compute = (
        start(*daemon) for daemon in (("nova-conductor", "conductor"), ("nova-scheduler", "scheduler"), COMPUTE)
    )
    _map_hosts()
    if settings.sharing:
        zones.enter(settings.site)
    serve(child, _application("osapi_compute"), _application("metadata"))
    # nova-compute's unfinished work may still call the conductor and the scheduler. Each takes about a second to stop its idle threads.
    compute.stop()
    with ThreadPoolExecutor() as stopping:
        stopping.submit(scheduler.stop)
        stopping.submit(conductor.stop)


COMPUTE = ("nova-compute", "compute", "compute-alt")
"""Binary, topic and second topic of nova-compute. It starts last, because its start calls the other services."""


MOST_MAPPINGS = 1000
"""Greatest number of attempts to map hosts that other compute sites map at the same time: one for each of them."""


def map_host(child: Child) -> None:
    """Register the host of a compute site, which has started for the first time, in the API database of its control site.

    Arguments of the process:
        directory: the directory of the full site.
        host: the name of the compute site.
        mark: a file that is created when the host is registered.

    Raises:
        HostMappingNotFound: the control site does not know the host.
    """
    from nova import context, objects

    settings = Settings.load(child.arguments["directory"])
    _configure(settings)
    _map_hosts()
    objects.HostMapping.get_by_host(context.get_admin_context(), child.arguments["host"])
    database_files.mark(Path(child.arguments["mark"]), settings, "nova_api")


def _configure(settings: Settings) -> None:
    """Configure the process once for all services, as `main` of nova/cmd/{conductor,scheduler,compute}.py does for each.

    Upstream's nova-compute disables its database access and sends each object's save to the conductor (`indirection_api`). Here the
    conductor is in the same process and the database is a file beside it, so objects go straight to it, except at a compute site.
    """
    import os_brick
    from nova import objects
    from nova.api.openstack import wsgi_app
    from nova.conf import CONF
    from oslo_service import opts

    from atoll.services.patches.nova import arriving_servers, heartbeats, host_names

    heartbeats.install()
    os.environ["OS_NOVA_CONFIG_DIR"] = str(settings.etc / "nova")
    os.environ["OS_NOVA_CONFIG_FILES"] = f"{common.upstream_file('etc/nova/api-paste.ini')};nova.conf"
    wsgi_app.init_global_data(wsgi_app._get_config_files(), "nova", "nova")
    opts.register_service_opts(CONF)
    os_brick.setup(CONF)
    host_names.install()
    arriving_servers.install()
    install_conductor(settings)
    install_hypervisor(settings)
    install_database(settings)
    objects.Service.enable_min_version_cache()


def install_conductor(settings: Settings) -> None:
    """Install the patches of the conductor."""
    from atoll.mesh import compute_sites
    from atoll.services.patches.nova import conductor_batches, deleted_builds, early_changes, failed_builds

    deleted_builds.install()
    failed_builds.install()
    early_changes.install()
    if settings.reduces_traffic:
        conductor_batches.install(settings.directory / compute_sites.FILE)


def install_hypervisor(settings: Settings) -> None:
    """Install nova-compute's patches and the drivers that its configuration names; the configuration must have been read."""
    from atoll.services.patches.nova import (
        accepted_deletion,
        console_log,
        fake_hypervisor,
        placement_writes,
        recovering_manager,
    )  # fmt: skip
    from atoll.services.patches.shared import privsep

    accepted_deletion.install()
    console_log.install()
    placement_writes.install()
    if settings.reduces_traffic:
        _reduce_traffic()
    recovering_manager.install()
    if settings.hypervisor == "fake":
        fake_hypervisor.install()
    else:
        import os_vif

        from atoll.services.patches.nova import disk_flush, guest_driver, image_check, overlay_images, resumed_guests, serial_ports

        libvirtd.open_instances(settings)
        os_vif.initialize()
        overlay_images.prepare(settings)
        resumed_guests.prepare(settings)
        guest_driver.install(settings)
        if settings.durable:
            disk_flush.install()
        image_check.install()
        serial_ports.install()
        privsep.disable_privsep_daemons()


def install_database(settings: Settings) -> None:
    """Install the patches with which Nova executes fewer statements; `install_hypervisor` must have been called."""
    if not settings.reduces_traffic:
        return
    from atoll.services.patches.nova import action_records, instance_saves, quota_limits, row_writes

    for patch in (instance_saves, row_writes, action_records, quota_limits):
        patch.install()
    if settings.database("nova_cell1").startswith("sqlite:"):
        from atoll.services.patches.nova import kept_rows, service_versions, system_metadata

        for patch in (service_versions, kept_rows, system_metadata):
            patch.install()


def _reduce_traffic() -> None:
    """Install the patches that reduce the control traffic of Nova's parts."""
    from atoll.services.patches.nova import build_disks, expanded_ports, image_schema, list_batches, placement_claims, tracker_allocations

    for patch in (build_disks, expanded_ports, image_schema, list_batches, placement_claims, tracker_allocations):
        patch.install()


def identify(path: Path) -> None:
    """Create the compute host's id as Nova does at its first start (nova/virt/node.py), and flush it to the disk.

    Nova does not flush the file, and never starts again if a loss of power leaves it empty. It accepts an existing file, because operators
    may provide one.
    """
    if not path.exists():
        write_private(path, str(uuid4()))


def _application(name: str) -> Any:
    from nova.api.openstack import wsgi_app

    return wsgi_app.init_application(name, "nova")


def start(binary: str, topic: str, second_topic: str | None = None) -> Any:
    """Start one of Nova's services in this process, and return it."""
    from nova import service

    daemon = service.Service.create(binary=binary, topic=topic, topic_alt=second_topic)
    daemon.start()
    # The first report comes after seconds; until then, a service that was stopped for a minute is down, and a boot finds no host.
    daemon.service_ref.report_count += 1
    daemon.service_ref.save()
    return daemon


def _make_flavors() -> None:
    """Create the default flavors, unless the database has any flavor."""
    from nova import context, objects

    admin = context.get_admin_context()
    if objects.FlavorList.get_all(admin, limit=1):
        return
    for flavor in _flavors(admin):
        flavor.create()


def _flavors(admin: Any) -> Iterator[Any]:
    from nova import objects

    for index, (name, memory_mib, vcpus, disk_gib) in enumerate(FLAVORS, start=1):
        yield objects.Flavor(
            context=admin, flavorid=str(index), name=name, memory_mb=memory_mib, vcpus=vcpus, root_gb=disk_gib, ephemeral_gb=0, swap=0,
            rxtx_factor=1.0, is_public=True, disabled=False, extra_specs={},
        )  # fmt: skip


def _map_hosts() -> None:
    """Map all compute hosts to their cell, without which the scheduler ignores them.

    Compute sites that start together run this at the same time. A host that another of them maps first is not an error.

    Raises:
        HostMappingExists: this has happened more often than a cloud has sites.
    """
    from nova import context, exception
    from nova.objects import host_mapping

    for left in reversed(range(MOST_MAPPINGS)):
        try:
            host_mapping.discover_hosts(context.get_admin_context())
        except exception.HostMappingExists:
            if not left:
                raise
        else:
            return


# The router stops after Nova, so that messages to compute sites still arrive.
NEEDS = ("keystone", "placement", "glance", "neutron", "bus", "libvirt", "ovn-controller", "ovs-agents", *DATABASE_SERVERS)

SERVICE = Service("nova", __name__, configuration, listens=("compute", "metadata"), needs=NEEDS)
