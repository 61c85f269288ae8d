"""bagpipe-bgp of a site: the BGP speaker of networking-bagpipe, which also has Open vSwitch do what the routes say.

It does what `daemon_main` of networking_bagpipe/bagpipe_bgp/bgp_daemon.py does. VPNs of layer 3 are flows and MPLS labels in a bridge of
their own; kernels need know nothing of either. Those of layer 2 have routes, and no packets: upstream's driver for Open vSwitch asks for an
OpenFlow controller in this process, which there is not.
"""

from __future__ import annotations

import os
import subprocess
import threading

from atoll.runtime.child import Child
from atoll.services import common
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.network_services import underlay
from atoll.services.ovn import layout, lifetime

FILE = "neutron/bagpipe.conf"

BRIDGE = "br-mpls"
"""Where packets get and lose their labels."""

AS_NUMBER = 64512
"""The autonomous system of all sites, unless a site's `options` say otherwise; the first of those for private use."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render its file. Whom it speaks to, `[BGP] peers`, belongs in the site's `options`."""
    sections: Sections = {
        "API": {"host": "127.0.0.1"},
        "BGP": {"local_address": settings.own_address, "my_as": AS_NUMBER},
        "COMMON": {"root_helper": ""},
        "DATAPLANE_DRIVER_IPVPN": {
            "dataplane_driver": "ovs",
            "ovs_bridge": BRIDGE,
            "mpls_interface": "*gre*",
            "dataplane_local_address": settings.outside.partition("/")[0] or settings.own_address,
        },
        "DATAPLANE_DRIVER_EVPN": {"dataplane_driver": "dummy"},
        "OVS": {"ovsdb_connection": layout.database(settings)},
    }
    return {FILE: render(common.logging(settings), sections)}


def run(child: Child) -> None:
    """Speak BGP until the process is asked to stop."""
    from networking_bagpipe.bagpipe_bgp import bgp_daemon
    from networking_bagpipe.bagpipe_bgp.api import api
    from networking_bagpipe.bagpipe_bgp.api import config as api_config
    from networking_bagpipe.bagpipe_bgp.common import config
    from networking_bagpipe.bagpipe_bgp.engine import exabgp_peer_worker
    from oslo_config import cfg
    from oslo_log import log

    from atoll.services import privileges
    from atoll.services.network_services import bagpipe_peers

    settings = Settings.load(child.arguments["directory"])
    os.environ.update(layout.environment(settings))
    lifetime.end_with(lifetime.switch(settings), "the switch has ended, and has forgotten the labels: they are told anew")
    _make_bridge(settings)
    if underlay.needed(settings):
        underlay.lay(settings)
    log.register_options(cfg.CONF)
    api_config.register_config()
    config.register()
    cfg.CONF(["--config-file", str(settings.etc / FILE)], project="bagpipe-bgp")
    bgp_daemon.setup_logging()
    exabgp_peer_worker.setup_exabgp_env()
    privileges.use_own()
    bagpipe_peers.install()
    server = api.PecanAPI()
    threading.Thread(target=server.run, name="api", daemon=True).start()
    child.ready()
    child.wait()
    server.stop()


def _make_bridge(settings: Settings) -> None:
    told = ("--may-exist", "add-br", BRIDGE, "--", "set", "Bridge", BRIDGE, f"datapath_type={settings.datapath}")
    subprocess.run(["ovs-vsctl", f"--timeout={layout.PATIENCE_S}", *told], check=True)


SERVICE = Service("bagpipe-bgp", __name__, configuration, listens=(), needs=("vswitchd",), forked_from="neutron")
