"""Nova: both its APIs, conductor, scheduler and compute of a site, in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from atoll.files import write_private
from atoll.runtime.child import Child
from atoll.services import base, common, libvirt_daemon, unfinished_requests
from atoll.services.contract import LOOPBACK, Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.ovn import layout

FLAVORS = (("m1.nano", 64, 1, 1), ("m1.tiny", 512, 1, 1), ("m1.small", 2048, 1, 20), ("m1.medium", 4096, 2, 40), ("m1.large", 8192, 4, 80))
"""Name, RAM in MiB, VCPUs, disk in GiB: DevStack's names, so that examples found elsewhere work."""

FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)
"""Upstream's default."""

MODULES = (
    "atoll.services.fake_hypervisor",
    "atoll.services.settled",
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
"""What the fork server imports."""

GUEST_MODULES = (
    "atoll.services.guest_disks",
    "atoll.services.guest_driver",
    "atoll.services.image_check",
    "nova.virt.libvirt.driver",
    "nova.virt.libvirt.volume.volume",
    "vif_plug_ovs.ovs",
    "vif_plug_ovs.ovsdb.impl_idl",
)
"""What it imports besides where real guests can run."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render nova.conf; the paste file is upstream's own."""
    here: Sections = {
        "DEFAULT": {"default_availability_zone": settings.site},
        "api": {"local_metadata_per_cell": False, "response_validation": common.VALIDATION},
        "neutron": {"service_metadata_proxy": True, "metadata_proxy_shared_secret": settings.secrets["metadata"]},
        "filter_scheduler": {
            "available_filters": "atoll.services.settled.all_filters",
            "enabled_filters": (*FILTERS, "SettledFilter"),
        },
    }
    databases = _databases(settings.database("nova_api"), settings.database("nova_cell1"))
    return {"nova/nova.conf": render(*compute(settings), common.authtoken(settings, "nova"), databases, here), **common.policies("nova")}


def compute(settings: Settings) -> tuple[Sections, ...]:
    """What nova-compute is told, wherever it runs."""
    own: Sections = {
        "DEFAULT": {
            "host": settings.site,
            "my_ip": settings.own_address,
            "state_path": str(settings.data),
            "instances_path": str(settings.data / "instances"),
            # Resizing on the only host of a site is still resizing.
            "allow_resize_to_same_host": True,
            "executor_thread_pool_size": 16,
        },
        # One process holds them all.
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
            "endpoint_override": settings.url("image"),
            "region_name": settings.region,
        },
    }
    hypervisor = _fake_guests() if settings.hypervisor == "fake" else _guests(settings)
    return common.logging(settings), common.bus(settings), own, hypervisor, others


def _fake_guests() -> Sections:
    return {
        "DEFAULT": {
            "compute_driver": "fake.RestoredFakeDriver",
            # Nothing plugs a port of the fake driver, so nothing tells that it was plugged.
            "vif_plugging_timeout": 0,
            "vif_plugging_is_fatal": False,
        }
    }


def _guests(settings: Settings) -> Sections:
    return {
        "DEFAULT": {
            "compute_driver": "libvirt.GuestDriver",
            "vif_plugging_timeout": 60,
            # Guests go on without nova-compute, and what it was doing for them is told by their task state when it is back.
            "manager_shutdown_timeout": 2,
            # After a power cut guests are to run that ran before.
            "resume_guests_state_on_host_boot": True,
            # A site is small, and what runs beside its guests is in its own processes' figures.
            "reserved_host_memory_mb": 512,
            # What a guest's disk could grow to is not what it takes.
            "disk_allocation_ratio": 4.0,
        },
        # There is no other host to try it on, and trying would hide why it failed.
        "scheduler": {"max_attempts": 1},
        "libvirt": {
            "virt_type": settings.hypervisor,
            "connection_uri": libvirt_daemon.uri(settings),
            "images_type": "qcow2",
        },
        "os_vif_ovs": {"ovsdb_connection": layout.database(settings)},
        **_consoles(settings),
    }


def _consoles(settings: Settings) -> Sections:
    """QEMU asks nobody for a password, so it listens on loopback alone, where the gateway reaches it; see docs/guests.md."""
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
        # A host is mapped when it starts, so a timer need not look for new ones.
        "scheduler": {"discover_hosts_in_cells_interval": -1},
        # Defaults for a project of a site's own users; upstream's ten servers are made for a shared public cloud.
        "quota": {"instances": 200, "cores": 400, "ram": 1024 * 1024, "server_groups": 50, "key_pairs": 200},
    }


def preload() -> None:
    """Import Nova whole, and map its tables."""
    from nova import monkey_patch

    monkey_patch.patch(backend="threading")
    base.warm([*MODULES, *(GUEST_MODULES if find_spec("libvirt") else ())])

    from nova import objects

    objects.register_all()


def template(child: Child) -> None:
    """Make the schemas of the API database and of the two cells."""
    common.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    import nova.conf
    from nova import config, context
    from nova.db import migration

    conf = directory / "nova.conf"
    urls = {name: common.template_database(directory, f"nova_{name}") for name in ("api", "cell0", "cell1")}
    conf.write_text(render(_databases(urls["api"], urls["cell1"])), encoding="utf-8")
    config.parse_args(["nova-manage"], default_config_files=[str(conf)], init_rpc=False, prog="nova-manage")
    migration.db_sync(database="api")
    migration.db_sync(database="main")
    admin = context.get_admin_context()
    cell0 = nova.objects.CellMapping(context=admin, uuid=nova.objects.CellMapping.CELL0_UUID, transport_url="none:///", name="cell0")
    cell0.database_connection = urls["cell0"]
    with context.target_cell(admin, cell0) as targeted:
        migration.db_sync(database="main", context=targeted)
    for name in urls:
        common.checkpoint(directory / f"nova_{name}.db")


def run(child: Child) -> None:
    """Serve the compute and the metadata API, and run the conductor, the scheduler and the compute manager beside them."""
    from atoll.services.wsgi import serve

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings, "instances")
    common.databases(settings, "nova", ["nova_api", "nova_cell0", "nova_cell1"])
    identify(settings.data / "compute_id")
    _configure(settings)
    _map_cells(settings)
    _make_flavors()
    unfinished_requests.settle(settings)
    conductor, scheduler, compute = (
        start(*daemon) for daemon in (("nova-conductor", "conductor"), ("nova-scheduler", "scheduler"), COMPUTE)
    )
    _map_hosts()
    serve(child, _application("osapi_compute"), _application("metadata"))
    # What compute has begun may still ask the other two. Each waits about a second for its idle threads to notice.
    compute.stop()
    with ThreadPoolExecutor() as stopping:
        stopping.submit(scheduler.stop)
        stopping.submit(conductor.stop)


COMPUTE = ("nova-compute", "compute", "compute-alt")
"""Binary, topic, second topic. It is started last, for its start asks the others."""


def map_host(child: Child) -> None:
    """A job: tell a site's API database of the host of one of its compute sites, which has started for the first time.

    Arguments of the process:
        directory: of the full site.
        host: the name of the compute site.
        mark: a file that is made when it is done.

    Raises:
        HostMappingNotFound: the host is not known to the site.
    """
    from nova import context, objects

    settings = Settings.load(child.arguments["directory"])
    _configure(settings)
    _map_hosts()
    objects.HostMapping.get_by_host(context.get_admin_context(), child.arguments["host"])
    common.mark(Path(child.arguments["mark"]), settings.data / "nova_api.db")


def _configure(settings: Settings) -> None:
    """What `main` of nova/cmd/{conductor,scheduler,compute}.py does before it starts a service, once for all of them.

    nova-compute would turn off its database access and send each object's save to the conductor (`indirection_api`). Here the
    conductor is in the same process and the database is a file beside it, so objects go straight to it. In a compute site it does.
    """
    import os_brick
    from nova import objects
    from nova.api.openstack import wsgi_app
    from nova.conf import CONF
    from oslo_service import opts

    from atoll.services import buried_builds, host_names, lean_list, steady_heartbeats

    steady_heartbeats.install()
    os.environ["OS_NOVA_CONFIG_DIR"] = str(settings.etc / "nova")
    os.environ["OS_NOVA_CONFIG_FILES"] = f"{common.upstream_file('etc/nova/api-paste.ini')};nova.conf"
    wsgi_app.init_global_data(wsgi_app._get_config_files(), "nova", "nova")
    opts.register_service_opts(CONF)
    os_brick.setup(CONF)
    buried_builds.install()
    host_names.install()
    lean_list.install()
    install_hypervisor(settings)
    objects.Service.enable_min_version_cache()


def install_hypervisor(settings: Settings) -> None:
    """Have nova-compute, in this process, find the drivers that its configuration names, which must have been read."""
    from atoll.services import accepted_deletion, console_log, fake_hypervisor, lean_tracker, privileges, unfinished_deletion

    accepted_deletion.install()
    console_log.install()
    lean_tracker.install()
    unfinished_deletion.install()
    if settings.hypervisor == "fake":
        fake_hypervisor.install()
    else:
        import os_vif

        from atoll.services import guest_disks, guest_driver, image_check, serial_ports

        libvirt_daemon.open_instances(settings)
        os_vif.initialize()
        guest_driver.install(settings)
        if settings.durable:
            guest_disks.install()
        image_check.install()
        serial_ports.install()
        privileges.use_own()


def identify(path: Path) -> None:
    """Give the compute host the id that Nova would give it at its first start (nova/virt/node.py), but on the disk.

    Nova does not flush the file, and never starts again if a loss of power leaves it empty. It takes one that is there, as operators may
    provide it.
    """
    if not path.exists():
        write_private(path, str(uuid4()))


def _application(name: str) -> Any:
    from nova.api.openstack import wsgi_app

    return wsgi_app.init_application(name, "nova")


def start(binary: str, topic: str, second_topic: str | None = None) -> Any:
    """Start one of Nova's daemons in this process, and return it."""
    from nova import service

    daemon = service.Service.create(binary=binary, topic=topic, topic_alt=second_topic)
    daemon.start()
    # Its own first report comes after seconds, and until then whoever was away for a minute counts as down: a boot would find no host.
    daemon.service_ref.report_count += 1
    daemon.service_ref.save()
    return daemon


def _map_cells(settings: Settings) -> None:
    """Tell the API database where the cells are: they move when the site's directory does, or its bus is another one."""
    from nova import context, exception, objects

    admin = context.get_admin_context()
    cells = (
        ("cell0", objects.CellMapping.CELL0_UUID, "none:///"),
        ("cell1", "00000000-0000-0000-0000-000000000001", settings.transport_url),
    )
    for name, uuid, transport_url in cells:
        connection = settings.database(f"nova_{name}")
        try:
            mapping = objects.CellMapping.get_by_uuid(admin, uuid)
        except exception.CellMappingNotFound:
            mapping = objects.CellMapping(
                context=admin, uuid=uuid, name=name, transport_url=transport_url, database_connection=connection, disabled=False
            )
            mapping.create()
        if (mapping.database_connection, mapping.transport_url) != (connection, transport_url):
            mapping.database_connection, mapping.transport_url = connection, transport_url
            mapping.save()


def _make_flavors() -> None:
    """The default flavors, unless there is any."""
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
    """Map the compute host to its cell, or the scheduler would not see it."""
    from nova import context
    from nova.objects import host_mapping

    host_mapping.discover_hosts(context.get_admin_context())


# The router, where there is one, goes after Nova: what is on its way to a compute site still gets there.
NEEDS = ("keystone", "placement", "glance", "neutron", "bus", "libvirt", "ovn-controller", "ovs-agents")

SERVICE = Service("nova", __name__, configuration, listens=("compute", "metadata"), needs=NEEDS)
