"""Neutron's agent beside OVN: for each network that has guests here it keeps a proxy, which brings their questions to Nova's metadata API.

It does what `main` of neutron/agent/ovn/ovn_neutron_agent.py does, as threads of Neutron's API process: by itself it would take 60 MB for
little work. It needs neither a process manager nor a helper for privileges: who may run guests is root. The proxies' network namespaces
have names, in /run/netns, and networks that were brought from another site have the same id at both: so Neutron sees a /run/netns of its
site's own.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from atoll.namespaces import private_mounts
from atoll.services import leftovers, network_services
from atoll.services.contract import Settings
from atoll.services.ini import Sections
from atoll.services.ovn import layout
from atoll.services.ovn.offload import send_whole_packets
from atoll.wan.isolation import within

NAMESPACES = Path("/run/netns")

LOG = logging.getLogger(__name__)

NAME = "ovn-agent"
"""What network services call it."""


def configuration(settings: Settings) -> Sections:
    """What neutron.conf says to it."""
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
    """Move this process, which must have one thread, to where the agent can work."""
    layout.agents_state(settings).mkdir(mode=0o700, exist_ok=True)
    _clear(settings)
    names = settings.sockets / "netns"
    # An agent that was killed leaves the files behind on which it had mounted its network namespaces: they would be taken for those.
    shutil.rmtree(names, ignore_errors=True)
    private_mounts({"/run/netns": str(names)})


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """Serve metadata as long as the block runs, in threads. Neutron has read its configuration by then."""
    from neutron.agent.ovn.agent import ovn_neutron_agent
    from neutron.conf.agent.ovn.ovn_neutron_agent import config
    from oslo_config import cfg

    from atoll.services import privileges

    config.register_opts()
    privileges.use_own()
    _add_to_proxies(settings)
    agent = ovn_neutron_agent.OVNNeutronAgent(cfg.CONF)
    agent.start()
    yield
    agent.stop()
    _clear(settings)


def _add_to_proxies(settings: Settings) -> None:
    """Have each network's proxy for metadata come with a name server, and go with it; and have it heard by a switch in user space."""
    from neutron.agent.ovn.metadata import driver
    from oslo_config import cfg

    from atoll.services.ovn import resolver

    servers = resolver.NameServers(resolver.names_in_ovn, cfg.CONF.dns_domain)

    class MetadataDriver(driver.MetadataDriver):  # type: ignore[misc]
        """Replaces upstream's: the agent calls it once a network's namespace has its addresses, and before that is taken away."""

        @classmethod
        def spawn_monitored_metadata_proxy(
            cls, monitor: Any, ns_name: str, *arguments: Any, network_id: str, bind_interface: str, **more: Any
        ) -> None:
            namespace = os.open(NAMESPACES / ns_name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if settings.datapath == "netdev":
                    within(namespace, partial(send_whole_packets, bind_interface))
                servers.open(network_id, namespace)
            except OSError as error:
                LOG.warning("the switch or the guests of network %s do not hear all from %s: %s", network_id, ns_name, error)
            finally:
                os.close(namespace)
            super().spawn_monitored_metadata_proxy(
                monitor, ns_name, *arguments, network_id=network_id, bind_interface=bind_interface, **more
            )

        @classmethod
        def destroy_monitored_metadata_proxy(cls, monitor: Any, uuid: str, *arguments: Any) -> None:
            servers.close(uuid)
            super().destroy_monitored_metadata_proxy(monitor, uuid, *arguments)

    driver.MetadataDriver = MetadataDriver


def _clear(settings: Settings) -> None:
    """Take away what an agent before had for each network: its namespace went with its mounts, and nobody else could end the proxy there.

    The switch must let go of the interface too: it would go on reading the one that is gone, and take no notice of a new one of that name.
    """
    for name in leftovers.end(layout.agents_state(settings)):
        interface = f"tap{name[:10]}0"  # `_get_veth_name` of neutron/agent/ovn/metadata/agent.py
        layout.forget_port(settings, interface)
        subprocess.run(["ip", "link", "delete", interface], check=False, capture_output=True)
