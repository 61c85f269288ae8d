"""Neutron's agent beside OVN: for each network that has guests here it keeps a proxy, which brings their questions to Nova's metadata API.

It does what `main` of neutron/agent/ovn/ovn_neutron_agent.py does, without a process manager and without a helper for privileges: who may
run guests is root. The proxies' network namespaces have names, in /run/netns, and networks that were brought from another site have the
same id at both: so each agent sees a /run/netns of its own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from atoll.namespaces import private_mounts
from atoll.runtime.child import Child
from atoll.services import common, leftovers, network_services
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.ovn import layout

NAME = "ovn-agent"

FILE = "neutron/ovn_agent.conf"


def configuration(settings: Settings) -> dict[str, str]:
    """Render its file."""
    database = layout.database(settings)
    sections: Sections = {
        "DEFAULT": {
            "host": settings.site,
            # Nobody calls it, nor does it call anybody: else Neutron would load its client for RabbitMQ, 3 MB.
            "transport_url": "fake://",
            "state_path": str(_state(settings)),
            "nova_metadata_host": settings.host,
            "nova_metadata_port": settings.ports["metadata"],
            "metadata_proxy_shared_secret": settings.secrets["metadata"],
            "metadata_proxy_socket": str(layout.directory(settings) / "metadata.sock"),
            "metadata_workers": 0,  # threads of the agent itself
        },
        "agent": {"extensions": ("metadata", *network_services.agent_extensions(settings, NAME))},
        "AGENT": {"root_helper": ""},
        "ovn": {"ovn_nb_connection": database, "ovn_sb_connection": database},
        "ovs": {"ovsdb_connection": database},
    }
    return {FILE: render(common.logging(settings), sections, *network_services.agent_configuration(settings, NAME))}


def run(child: Child) -> None:
    """Serve metadata until the process is asked to stop."""
    from neutron.agent.ovn.agent import ovn_neutron_agent
    from neutron.common import config
    from neutron.conf import common as common_config
    from neutron.conf.agent.ovn.ovn_neutron_agent import config as agent_config
    from oslo_config import cfg
    from oslo_log import log

    from atoll.services import privileges

    settings = Settings.load(child.arguments["directory"])
    _state(settings).mkdir(mode=0o700, exist_ok=True)
    _clear(settings)
    names = settings.sockets / "netns"
    # An agent that was killed leaves the files behind on which it had mounted its network namespaces: they would be taken for those.
    shutil.rmtree(names, ignore_errors=True)
    private_mounts({"/run/netns": str(names)})
    log.register_options(cfg.CONF)
    common_config.register_cli_script_opts()
    common_config.register_core_common_config_opts()
    agent_config.register_opts()
    config.init(["--config-file", str(settings.etc / FILE)])
    config.setup_logging()
    privileges.use_own()
    agent = ovn_neutron_agent.OVNNeutronAgent(cfg.CONF)
    agent.start()
    child.ready()
    child.wait()
    agent.stop()
    _clear(settings)


def _state(settings: Settings) -> Path:
    return settings.data / "ovn-agent"


def _clear(settings: Settings) -> None:
    """Take away what an agent before had for each network: its namespace went with its mounts, and nobody else could end the proxy there.

    The switch must let go of the interface too: it would go on reading the one that is gone, and take no notice of a new one of that name.
    """
    for name in leftovers.end(_state(settings)):
        interface = f"tap{name[:10]}0"  # `_get_veth_name` of neutron/agent/ovn/metadata/agent.py
        layout.forget_port(settings, interface)
        subprocess.run(["ip", "link", "delete", interface], check=False, capture_output=True)


SERVICE = Service(NAME, __name__, configuration, listens=(), needs=("ovn-controller",), forked_from="neutron")
