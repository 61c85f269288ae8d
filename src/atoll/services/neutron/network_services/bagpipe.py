"""bagpipe-bgp of a site: the BGP speaker of networking-bagpipe, which also programs Open vSwitch according to the routes that it learns.

The module repeats `daemon_main` of networking_bagpipe/bagpipe_bgp/bgp_daemon.py. Layer-3 VPNs are flows and MPLS labels in a bridge of
their own, and need no support by the kernel. For layer-2 VPNs, routes are exchanged, but no packets are forwarded: upstream's driver for
Open vSwitch needs an OpenFlow controller in this process, which Atoll does not run.
"""

from __future__ import annotations

import os
import subprocess
import threading

from atoll.runtime.child import Child
from atoll.services import common
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.neutron.network_services import underlay
from atoll.services.neutron.ovn import layout, lifetime

FILE = "neutron/bagpipe.conf"

BRIDGE = "br-mpls"
"""The bridge that adds and removes MPLS labels."""

AS_NUMBER = 64512
"""The autonomous system of all sites, unless a site's `options` name another; the first number for private use."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render the configuration file of bagpipe-bgp; its peers (`[BGP] peers`) belong in the site's `options`."""
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

    from atoll.services.patches.neutron import bagpipe_peers
    from atoll.services.patches.shared import privsep

    settings = Settings.load(child.arguments["directory"])
    os.environ.update(layout.environment(settings))
    lifetime.end_with(lifetime.switch(settings), "the switch has ended, and has lost the labels: they are set anew")
    _make_bridge(settings)
    if underlay.is_needed(settings):
        underlay.create(settings)
    log.register_options(cfg.CONF)
    api_config.register_config()
    config.register()
    cfg.CONF(["--config-file", str(settings.etc / FILE)], project="bagpipe-bgp")
    bgp_daemon.setup_logging()
    exabgp_peer_worker.setup_exabgp_env()
    privsep.disable_privsep_daemons()
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
