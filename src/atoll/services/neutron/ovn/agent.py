"""Neutron's agent beside OVN, which runs a metadata proxy for each network that has guests at the site.

The module repeats `main` of neutron/agent/ovn/ovn_neutron_agent.py, as threads of Neutron's API process: a process of its own would take
60 MB for little work. It needs neither a process manager nor a privileged helper, because the process is root. The proxies' network
namespaces have names in /run/netns, and a network that was brought from another site has the same id at both sites: so each site's Neutron
has its own /run/netns.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from atoll.namespaces import private_mounts
from atoll.services.contract import Settings
from atoll.services.ini import Sections
from atoll.services.neutron import network_services, orphans
from atoll.services.neutron.ovn import layout

NAME = "ovn-agent"
"""The name by which network services refer to the agent."""


def configuration(settings: Settings) -> Sections:
    """Return the agent's options in neutron.conf."""
    return {
        "DEFAULT": {
            "state_path": str(layout.agents_state(settings)),
            "nova_metadata_host": settings.listens_at("metadata"),
            "nova_metadata_port": settings.ports["metadata"],
            "metadata_proxy_shared_secret": settings.secrets["metadata"],
            "metadata_proxy_socket": str(layout.directory(settings) / "metadata.sock"),
            "metadata_workers": 0,  # threads
        },
        "agent": {"extensions": ("metadata", *network_services.agent_extensions(settings, NAME))},
        "AGENT": {"root_helper": ""},
        "ovs": {"ovsdb_connection": layout.database(settings)},
    }


def prepare(settings: Settings) -> None:
    """Give this process, which must have one thread, a /run/netns of its own, and clean up after an earlier agent."""
    layout.agents_state(settings).mkdir(mode=0o700, exist_ok=True)
    _clear(settings)
    names = settings.sockets / "netns"
    # A killed agent leaves the files on which it had mounted its namespaces; the next one would take them for namespaces.
    shutil.rmtree(names, ignore_errors=True)
    private_mounts({"/run/netns": str(names)})


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """Run the agent in threads while the block runs; Neutron's configuration must have been read."""
    from neutron.agent.ovn.agent import ovn_neutron_agent
    from neutron.conf.agent.ovn.ovn_neutron_agent import config
    from oslo_config import cfg

    from atoll.services.patches.neutron import metadata_proxy
    from atoll.services.patches.shared import privsep

    config.register_opts()
    privsep.disable_privsep_daemons()
    metadata_proxy.install(settings)
    agent = ovn_neutron_agent.OVNNeutronAgent(cfg.CONF)
    agent.start()
    yield
    agent.stop()
    _clear(settings)


def _clear(settings: Settings) -> None:
    """Remove the proxies and interfaces that an earlier agent left for each network; their namespaces ended with the agent's mounts.

    The switch must release the interface too: otherwise it continues to read the removed device, and ignores a new one of the same name.
    """
    for name in orphans.kill_orphans(layout.agents_state(settings)):
        interface = f"tap{name[:10]}0"  # `_get_veth_name` of neutron/agent/ovn/metadata/agent.py
        layout.forget_port(settings, interface)
        subprocess.run(["ip", "link", "delete", interface], check=False, capture_output=True)
