"""A name server beside the metadata proxy of each network.

Neutron's agent beside OVN starts a proxy in a network's namespace once the namespace has its addresses, and stops it before the namespace
is removed (`MetadataDriver` in neutron/agent/ovn/metadata/driver.py). A subclass takes its place: it starts and stops the network's name
server too. If Open vSwitch forwards in user space, it also has the proxy's interface send whole packets (`offload`).
"""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

from neutron.agent.ovn.metadata import driver
from oslo_config import cfg

from atoll.services.contract import Settings
from atoll.services.neutron.ovn import resolver
from atoll.services.neutron.ovn.offload import send_whole_packets
from atoll.wan.isolation import within

NAMESPACES = Path("/run/netns")

LOG = logging.getLogger(__name__)


def install(settings: Settings) -> None:
    """Put the subclass in upstream's place; Neutron's configuration must have been read.

    Args:
        settings: the site's settings.
    """
    servers = resolver.NameServers(resolver.names_in_ovn, cfg.CONF.dns_domain)

    class MetadataDriver(driver.MetadataDriver):
        """Upstream's driver, with a name server for each proxy."""

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
                LOG.warning("network %s has no name server, or its packets lack checksums, in namespace %s: %s", network_id, ns_name, error)
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
