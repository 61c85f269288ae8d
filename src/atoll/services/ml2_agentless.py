"""An ML2 mechanism driver that binds ports with no agent behind it, for sites whose hypervisor is Nova's fake driver.

A port on such a site is a record: it has addresses, a MAC and a state, and carries no packet. So any port of any host can be bound at
once, and is up as soon as it is bound. Real networks come with a real mechanism driver in its place.
"""

from __future__ import annotations

from typing import Any

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api

from atoll.services import agentless_l3

VNIC_TYPES = [portbindings.VNIC_NORMAL, portbindings.VNIC_DIRECT, portbindings.VNIC_MACVTAP]
SEGMENT_TYPES = [constants.TYPE_LOCAL, constants.TYPE_FLAT, constants.TYPE_VLAN, constants.TYPE_VXLAN, constants.TYPE_GENEVE]


class AgentlessMechanismDriver(api.MechanismDriver):  # type: ignore[misc]
    """Entry point `agentless` of `neutron.ml2.mechanism_drivers`."""

    def initialize(self) -> None:
        """Have what an L3 agent would report done too; there is nothing to connect to."""
        agentless_l3.subscribe()

    @property
    def connectivity(self) -> str:
        """What ML2 shows as the driver's connectivity."""
        return str(portbindings.CONNECTIVITY_L2)

    def bind_port(self, context: Any) -> None:
        """Bind to the first segment that fits, and call the port up.

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
