"""nova-compute alone, the only service of a compute site, whose control plane is at another site.

The module repeats `main` of nova/cmd/compute.py: nova-compute has no database, and the conductor of the control site reads and saves its
objects over the bus. nova-compute reaches Keystone, Placement, Glance and Neutron over HTTP.
"""

from __future__ import annotations

from atoll.runtime.child import Child
from atoll.services import common
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.nova import service as nova
from atoll.services.nova.recovery.redelivery import Redelivery


def configuration(settings: Settings) -> dict[str, str]:
    """Render nova.conf of a compute site."""
    # A compute site may not use the scheduler's topic; without its updates, the scheduler reads the database.
    apart: Sections = {"filter_scheduler": {"track_instance_changes": False}}
    return {"nova/nova.conf": render(*nova.compute(settings), apart)}


def run(child: Child) -> None:
    """Run the compute manager until the process is asked to stop. If the conductor is not ready, the manager waits for it."""
    from atoll.services.patches.nova import recovering_manager

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings, "instances")
    nova.identify(settings.data / "compute_id")
    _configure(settings)
    recovering_manager.prepare(Redelivery.configured())
    compute = nova.start(*nova.COMPUTE)
    child.ready()
    child.wait()
    compute.stop()


def _configure(settings: Settings) -> None:
    import os_brick
    from nova import config, objects
    from nova.conf import CONF
    from oslo_log import log
    from oslo_service import opts

    from atoll.services.patches.nova import remote_objects

    config.parse_args(["nova-compute"], default_config_files=[str(settings.etc / "nova" / "nova.conf")])
    log.setup(CONF, "nova")
    opts.register_service_opts(CONF)
    os_brick.setup(CONF)
    nova.install_hypervisor(settings)
    remote_objects.install()
    install_batches(settings)
    objects.Service.enable_min_version_cache()


def install_batches(settings: Settings) -> None:
    """Install the patches by which a compute site waits less often for its control site, unless the site's traffic is `stock`."""
    if not settings.reduces_traffic:
        return
    from atoll.services.patches.nova import batched_claims, batches, batching_manager, network_reads

    batched_claims.install()
    batches.install()
    batching_manager.install()
    network_reads.install()


SERVICE = Service("nova-compute", __name__, configuration, listens=(), needs=("bus", "nova", "gateway"), forked_from="nova")
