"""An ML2 mechanism driver that binds ports without agents, for sites with Nova's fake hypervisor.

A port of such a site is a record: it has addresses, a MAC and a status, and carries no packets. So any port of any host can be bound
without an agent, and is up as soon as it is bound. Real networks use a real mechanism driver instead.
"""

from __future__ import annotations

from typing import Any

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api

from atoll.services.neutron.agentless import l3

VNIC_TYPES = [portbindings.VNIC_NORMAL, portbindings.VNIC_DIRECT, portbindings.VNIC_MACVTAP]
SEGMENT_TYPES = [constants.TYPE_LOCAL, constants.TYPE_FLAT, constants.TYPE_VLAN, constants.TYPE_VXLAN, constants.TYPE_GENEVE]


class AgentlessMechanismDriver(api.MechanismDriver):
    """Entry point `agentless` of `neutron.ml2.mechanism_drivers`."""

    def initialize(self) -> None:
        """Subscribe to Neutron's events, to set the statuses that an L3 agent would report. The driver itself connects to nothing."""
        l3.subscribe()

    @property
    def connectivity(self) -> str:
        """The kind of connectivity that ML2 shows for the driver."""
        return str(portbindings.CONNECTIVITY_L2)

    def bind_port(self, context: Any) -> None:
        """Bind a port to the first supported segment, and set its status to ACTIVE.

        Args:
            context: the `neutron_lib.plugins.ml2.api.PortContext` of the port.
        """
        if context.current[portbindings.VNIC_TYPE] not in VNIC_TYPES:
            return
        for segment in context.segments_to_bind:
            if segment[api.NETWORK_TYPE] in SEGMENT_TYPES:
                context.set_binding(
                    segment[api.ID], portbindings.VIF_TYPE_OTHER, {portbindings.CAP_PORT_FILTER: True}, status=constants.PORT_STATUS_ACTIVE
                )
                return
