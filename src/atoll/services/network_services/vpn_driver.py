"""The driver of VPN as a service in Neutron's API process.

Upstream's `BaseOvnIPsecVPNDriver._setup` (neutron_vpnaas/services/vpn/service_drivers/ovn_ipsec.py) is one transaction, in which networks
and ports are made in others. MySQL lets both write; SQLite has one writer, so that the thread would wait for itself. Replaced: here what
is around the others is no transaction. Nothing is lost, for what the others have committed was never undone with it: upstream notes the
ids in the gateway's row for that reason.
"""

from __future__ import annotations

from typing import Any

from neutron_lib import constants
from neutron_vpnaas.extensions import vpnaas
from neutron_vpnaas.services.vpn.service_drivers import ovn_ipsec


class Driver(ovn_ipsec.IPsecOvnVPNDriver):  # type: ignore[misc]
    """IPsec with OVN."""

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
