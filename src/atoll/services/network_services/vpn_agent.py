"""Neutron's VPN agent of a site with OVN: a network namespace for each router with VPNs, and strongSwan in it.

It does what `main` of neutron_vpnaas/services/vpn/ovn_agent.py does. Like the metadata agent, it sees a /run/netns of its own.
"""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

from atoll.namespaces import private_mounts
from atoll.runtime.child import Child
from atoll.services import common, leftovers
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.network_services.probes import kernel_encrypts
from atoll.services.ovn import layout

FILE = "neutron/vpn_agent.conf"

DIRECTORY = "vpn-agent"
"""Below a site's data."""

KNOWN_AFTER_S = 5.0
"""When the agent asks a second time which routers are its own. The first time it has only just said that it is there, and Neutron, which
hears of that from OVN's database, mostly does not know it yet: the answer is none, and upstream does not ask again."""

STATUS_S = 15
"""How old a connection's status in the API may be, in seconds. Lower: ipsec(8) is run more often for each router."""

PLUGINS = Path("/etc/strongswan.d")
"""Where Debian's packages of strongSwan say which of its plug-ins are loaded."""

PERSISTENT = {
    "auto=route": "auto=start",
    "keyingtries=1": "keyingtries=%forever",
    "dpdaction=.*": "dpdaction=restart\n    closeaction=restart",
}
"""What connections say that strongSwan keeps by itself, by what upstream's say (`persistent`)."""

USER_SPACE = Path("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so")
"""The plug-in that encrypts in strongSwan itself, for kernels that can't."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render its file."""
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
        "vpnagent": {"vpn_device_driver": "atoll.services.network_services.strongswan.Driver"},
        "ipsec": {"config_base_dir": str(_state(settings) / "routers"), "ipsec_status_check_interval": STATUS_S},
        "strongswan": {
            "default_config_area": str(_state(settings) / "strongswan.d"),
            "ipsec_config_template": str(_state(settings) / "ipsec.conf.template"),
        },
    }
    return {FILE: render(common.logging(settings), common.bus(settings), sections)}


def run(child: Child) -> None:
    """Keep VPNs until the process is asked to stop."""
    from neutron.agent.ovn.extensions import extension_manager  # noqa: F401 - registers options of the switch's database
    from neutron.common import config
    from neutron.conf.agent import common as agent_config
    from neutron_vpnaas.agent.ovn.vpn import agent as vpn_agent
    from neutron_vpnaas.services.vpn import ovn_agent
    from oslo_config import cfg

    from atoll.services import privileges

    settings = Settings.load(child.arguments["directory"])
    _state(settings).mkdir(mode=0o700, exist_ok=True)
    end_daemons(_state(settings))
    _prepare(settings)
    shutil.rmtree(_namespaces(settings), ignore_errors=True)  # names of what has gone
    private_mounts({"/run/netns": str(_namespaces(settings))})
    ovn_agent.register_opts(cfg.CONF)
    config.init(["--config-file", str(settings.etc / FILE)])
    agent_config.setup_logging()
    privileges.use_own()
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
    """Have strongSwan load what Debian has it load, and its own encryption if the kernel has none."""
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
    """Upstream's template of ipsec.conf, with connections that are made at once, and again whenever they break.

    Upstream has the kernel ask for a connection when it has a packet for it. strongSwan's own encryption never asks.
    """
    for said, meant in PERSISTENT.items():
        template = re.sub(rf"^(\s+){said}$", rf"\g<1>{meant}", template, flags=re.MULTILINE)
    return template


def end_daemons(state: Path) -> None:
    """End the daemons of an agent that ran before: their network namespaces went with its mounts, and nobody else could end them.

    Args:
        state: the agent's directory.
    """
    leftovers.end(state / "routers", b"ipsec")


SERVICE = Service("vpn-agent", __name__, configuration, listens=(), needs=("neutron", "ovn-controller"), forked_from="neutron")
