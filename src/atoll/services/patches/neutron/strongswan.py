"""The device driver of Neutron's VPN agent, without rootwrap.

Upstream's (`StrongSwanProcess` in neutron_vpnaas/services/vpn/device_drivers/strongswan_ipsec.py) runs ipsec(8) through a program of its
own, which enters the namespace, mounts the router's directories over /etc and /run, and asks rootwrap for permission. There is no rootwrap
here, so `_execute` is replaced by one that does only the first two.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from typing import Any

from neutron.agent.linux import ip_lib
from neutron_lib import exceptions
from neutron_vpnaas.services.vpn.device_drivers import ovn_ipsec, strongswan_ipsec

from atoll.services.neutron.network_services.probes import kernel_encrypts

START_S = 10.0
"""Seconds that strongSwan may take until it listens."""

SCRIPT = 'mount --bind "$1" /etc && mount --bind "$2" /run && shift 2 && "$@"; code=$?; echo "Command: $* Exit code: $code "; exit $code'
"""Script that runs in a mount namespace of its own, which `ip netns exec` creates; upstream reads its last line."""


class Process(strongswan_ipsec.StrongSwanProcess):
    """The strongSwan of one router."""

    def _execute(self, cmd: Sequence[str], check_exit_code: bool = True, extra_ok_codes: Sequence[int] | None = None) -> str:
        """Run ipsec(8) in the router's namespace."""
        directories = (f"{self.config_dir}/etc", f"{self.config_dir}/var/run")
        command = ["sh", "-c", SCRIPT, "sh", *directories, *cmd]
        wrapper = ip_lib.IPWrapper(namespace=self.namespace)
        answer: str = wrapper.netns.execute(command, check_exit_code=check_exit_code, extra_ok_codes=extra_ok_codes)
        return answer

    def start(self) -> None:
        """Start strongSwan, and establish its connections.

        Upstream requests the connections without waiting until strongSwan listens.
        """
        if not self.namespace:
            return
        if not kernel_encrypts():
            self._add_addresses()
            self._execute([self.binary, "start"])  # it connects by itself; see `persistent` in vpn_agent.py
            return
        self._execute([self.binary, "start"])
        for connection in self.vpnservice["ipsec_site_connections"]:
            self._patiently([self.binary, "stroke", "up-nb", connection["id"]])

    def _patiently(self, command: Sequence[str]) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._execute(command)
            except exceptions.ProcessExecutionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def restart(self) -> None:
        """Have strongSwan read its files again."""
        if not kernel_encrypts():
            self._add_addresses()
        super().restart()

    def _add_addresses(self) -> None:
        """Give the namespace an address in each of the router's own networks: the network's very first one, which no port has.

        Without one, strongSwan's own encryption finds no source for its routes (`install_route` of libcharon's kernel_libipsec_ipsec.c).
        """
        for cidr in local_networks(self.vpnservice):
            ip_lib.IPDevice("lo", namespace=self.namespace).link.set_up()
            address = f"{ipaddress.ip_network(cidr).network_address}/32"
            device = ip_lib.IPDevice("lo", namespace=self.namespace)
            if address not in (known["cidr"] for known in device.addr.list()):
                device.addr.add(address)


def local_networks(vpnservice: Any) -> list[str]:
    """Return the networks at this side of a router's VPNs."""
    connections = vpnservice["ipsec_site_connections"] if vpnservice else ()
    return sorted({cidr for connection in connections for cidr in connection["local_cidrs"]})


class StrongSwanDriver(ovn_ipsec.OvnStrongSwanDriver):
    """A driver that keeps a `Process` for each router."""

    def create_process(self, process_id: str, vpnservice: Any, namespace: str) -> Process:
        """Return the strongSwan of a router."""
        return Process(self.conf, process_id, vpnservice, namespace)
