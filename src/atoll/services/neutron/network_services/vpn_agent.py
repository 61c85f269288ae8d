"""Neutron's VPN agent of a site with OVN, with a network namespace and a strongSwan for each router with VPNs.

The module repeats `main` of neutron_vpnaas/services/vpn/ovn_agent.py. Like the metadata agent, the process has a /run/netns of its own.
"""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

from atoll.namespaces import private_mounts
from atoll.runtime.child import Child
from atoll.services import common
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.neutron import orphans
from atoll.services.neutron.network_services.probes import kernel_encrypts
from atoll.services.neutron.ovn import layout

FILE = "neutron/vpn_agent.conf"

DIRECTORY = "vpn-agent"
"""Name of the agent's directory, below the site's data."""

KNOWN_AFTER_S = 5.0
"""Seconds after which the agent asks a second time for its routers.

At its first request, the agent has only just announced itself in OVN's database, and Neutron mostly has not read that yet. Then the answer
is empty, and upstream's agent does not ask again.
"""

STATUS_S = 15
"""Seconds between updates of a connection's status in the API; each update runs ipsec(8) for each router."""

PLUGINS = Path("/etc/strongswan.d")
"""Directory in which Debian's packages of strongSwan configure the plug-ins that are loaded."""

PERSISTENT = {
    "auto=route": "auto=start",
    "keyingtries=1": "keyingtries=%forever",
    "dpdaction=.*": "dpdaction=restart\n    closeaction=restart",
}
"""Replacements in upstream's template of connections, after which strongSwan keeps connections up by itself (`persistent`)."""

USER_SPACE = Path("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so")
"""The plug-in with which strongSwan encrypts by itself, if the kernel cannot."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render the configuration file of the VPN agent."""
    database = layout.database(settings)
    sections: Sections = {
        "DEFAULT": {
            "host": settings.site,
            "state_path": str(_state(settings)),
            "interface_driver": "openvswitch",
        },
        "AGENT": {"root_helper": ""},
        "ovn": {"ovn_nb_connection": database, "ovn_sb_connection": database},
        "ovs": {"ovsdb_connection": database, "integration_bridge": layout.INTEGRATION_BRIDGE, "datapath_type": settings.datapath},
        "vpnagent": {"vpn_device_driver": "atoll.services.patches.neutron.strongswan.StrongSwanDriver"},
        "ipsec": {"config_base_dir": str(_state(settings) / "routers"), "ipsec_status_check_interval": STATUS_S},
        "strongswan": {
            "default_config_area": str(_state(settings) / "strongswan.d"),
            "ipsec_config_template": str(_state(settings) / "ipsec.conf.template"),
        },
    }
    return {FILE: render(common.logging(settings), common.bus(settings), sections)}


def run(child: Child) -> None:
    """Run the VPN agent until the process is asked to stop."""
    from neutron.agent.ovn.extensions import extension_manager  # noqa: F401 - registers options of the switch's database
    from neutron.common import config
    from neutron.conf.agent import common as agent_config
    from neutron_vpnaas.agent.ovn.vpn import agent as vpn_agent
    from neutron_vpnaas.services.vpn import ovn_agent
    from oslo_config import cfg

    from atoll.services.patches.shared import privsep

    settings = Settings.load(child.arguments["directory"])
    _state(settings).mkdir(mode=0o700, exist_ok=True)
    end_daemons(_state(settings))
    _prepare(settings)
    shutil.rmtree(_namespaces(settings), ignore_errors=True)  # namespaces that an earlier agent left behind
    private_mounts({"/run/netns": str(_namespaces(settings))})
    ovn_agent.register_opts(cfg.CONF)
    config.init(["--config-file", str(settings.etc / FILE)])
    agent_config.setup_logging()
    privsep.disable_privsep_daemons()
    agent = vpn_agent.OvnVpnAgent(cfg.CONF)
    agent.start()
    child.ready()
    again = threading.Timer(KNOWN_AFTER_S, agent.sync)
    again.start()
    child.wait()
    again.cancel()
    agent.stop()
    end_daemons(_state(settings))


def _state(settings: Settings) -> Path:
    return settings.data / DIRECTORY


def _namespaces(settings: Settings) -> Path:
    return settings.sockets / "vpn-netns"


def _prepare(settings: Settings) -> None:
    """Configure strongSwan as Debian does, with strongSwan's own encryption if the kernel has none."""
    directory = _state(settings) / "strongswan.d"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(PLUGINS, directory)
    template = _upstream_template().read_text(encoding="utf-8")
    if not kernel_encrypts():
        (directory / "charon" / "kernel-libipsec.conf").write_text("kernel-libipsec {\n  load = yes\n}\n", encoding="ascii")
        template = persistent(template)
    (_state(settings) / "ipsec.conf.template").write_text(template, encoding="utf-8")


def _upstream_template() -> Path:
    from neutron_vpnaas.services.vpn.device_drivers import strongswan_ipsec

    return Path(strongswan_ipsec.TEMPLATE_PATH) / "template" / "strongswan" / "ipsec.conf.template"


def persistent(template: str) -> str:
    """Return upstream's template of ipsec.conf with connections that start immediately and are re-established whenever they break.

    Upstream relies on the kernel to request a connection when it has a packet for it; strongSwan's own encryption never makes such
    requests.
    """
    for said, meant in PERSISTENT.items():
        template = re.sub(rf"^(\s+){said}$", rf"\g<1>{meant}", template, flags=re.MULTILINE)
    return template


def end_daemons(state: Path) -> None:
    """Kill the daemons of an earlier agent. Their network namespaces ended with the agent's mounts.

    Args:
        state: the agent's directory.
    """
    orphans.kill_orphans(state / "routers", b"ipsec")


SERVICE = Service("vpn-agent", __name__, configuration, listens=(), needs=("neutron", "ovn-controller"), forked_from="neutron")
