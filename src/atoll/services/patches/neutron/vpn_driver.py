"""The driver of VPN as a service in Neutron's API process, which opens no transaction around other transactions.

Upstream's `BaseOvnIPsecVPNDriver._setup` (neutron_vpnaas/services/vpn/service_drivers/ovn_ipsec.py) is one transaction; inside it, further
transactions create networks and ports. MySQL lets the outer and the inner transactions write; SQLite has one writer, so the thread would
wait for itself. Here `_setup` opens no outer transaction. Nothing is lost: the rollback of the outer transaction never undid the inner
ones, which is why upstream records the ids of networks and ports in the gateway's row.
"""

from __future__ import annotations

from typing import Any

from neutron_lib import constants
from neutron_vpnaas.extensions import vpnaas
from neutron_vpnaas.services.vpn.service_drivers import ovn_ipsec


class VpnDriver(ovn_ipsec.IPsecOvnVPNDriver):
    """The IPsec driver for OVN."""

    def _setup(self, context: Any, vpnservice_dict: dict[str, Any]) -> None:
        router = vpnservice_dict["router_id"]
        agent = self.service_plugin.schedule_router(context, router)
        if not agent:
            raise vpnaas.NoVPNAgentAvailable
        gateway = self._ensure_gateway(context, vpnservice_dict)
        if gateway["status"] == constants.ACTIVE:
            return
        external = self.l3_plugin.get_router(context.elevated(), router)["external_gateway_info"]["network_id"]
        made: dict[str, str] = {}
        try:
            self.make_gw_port(router, external, agent["host"], made)
            self.make_transit_network(router, vpnservice_dict["project_id"], agent["host"], made)
        except Exception:
            self._update_gateway(context, gateway["id"], status=constants.ERROR, **made)
            raise
        self._update_gateway(context, gateway["id"], status=constants.ACTIVE, **made)
