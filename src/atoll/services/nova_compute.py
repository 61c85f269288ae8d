"""nova-compute alone: the only service of a compute site, whose control plane is at another site.

It does what `main` of nova/cmd/compute.py does: it has no database, and sends what its objects read and save to the conductor of the
control site, over the bus. Keystone, Placement, Glance and Neutron it reaches over HTTP.
"""

from __future__ import annotations

from atoll.runtime.child import Child
from atoll.services import common, nova
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render


def configuration(settings: Settings) -> dict[str, str]:
    """Render nova.conf."""
    # The scheduler's topic is not a compute site's to use; without its news the scheduler asks the database.
    apart: Sections = {"filter_scheduler": {"track_instance_changes": False}}
    return {"nova/nova.conf": render(*nova.compute(settings), apart)}


def run(child: Child) -> None:
    """Run the compute manager; it waits for the conductor if that is not there yet."""
    settings = Settings.load(child.arguments["directory"])
    common.directories(settings, "instances")
    nova.identify(settings.data / "compute_id")
    _configure(settings)
    compute = nova.start(*nova.COMPUTE)
    child.ready()
    child.wait()
    compute.stop()


def _configure(settings: Settings) -> None:
    import os_brick
    from nova import config, objects
    from nova.conductor import rpcapi
    from nova.conf import CONF
    from nova.db.main import api
    from nova.objects.base import NovaObject
    from oslo_log import log
    from oslo_service import opts

    config.parse_args(["nova-compute"], default_config_files=[str(settings.etc / "nova" / "nova.conf")])
    log.setup(CONF, "nova")
    opts.register_service_opts(CONF)
    os_brick.setup(CONF)
    nova.install_hypervisor(settings)
    api.DISABLE_DB_ACCESS = True
    NovaObject.indirection_api = rpcapi.ConductorAPI()
    objects.Service.enable_min_version_cache()


SERVICE = Service("nova-compute", __name__, configuration, listens=(), needs=("bus", "nova", "gateway"), forked_from="nova")
