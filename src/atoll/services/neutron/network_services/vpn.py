"""VPN as a service: routers connect to remote networks through IPsec tunnels, which strongSwan maintains.

If the kernel cannot encrypt packets, strongSwan encrypts them itself, with its plug-in kernel-libipsec.
"""

from __future__ import annotations

from atoll.services.neutron.network_services import vpn_agent
from atoll.services.neutron.network_services.contract import Implementation, NetworkService, Obstacle
from atoll.services.neutron.network_services.probes import kernel_encrypts

_DRIVERS = "neutron_vpnaas.services.vpn.service_drivers"

_PROGRAMS = {"ipsec": "strongswan-starter", "/usr/lib/ipsec/charon": "strongswan-charon", "sysctl": "procps"}


def _obstacle() -> Obstacle | None:
    if kernel_encrypts() or vpn_agent.USER_SPACE.exists():
        return None
    text = "the kernel has no IPsec encryption (CONFIG_INET_ESP), and strongSwan's own is not installed"
    return Obstacle(text, "apt-get install libcharon-extra-plugins")


VPN = NetworkService(
    "vpn",
    "IPsec tunnels between routers and other places (VPN as a service)",
    {
        "ovn": Implementation(
            plugins=("ovn-vpnaas",),
            providers=("VPN:strongswan:atoll.services.patches.neutron.vpn_driver.VpnDriver:default",),
            processes=(vpn_agent.SERVICE,),
            rpc=True,
            programs=_PROGRAMS,
            obstacle=_obstacle,
        ),
        "ovs": Implementation(
            plugins=("vpnaas",),
            providers=(f"VPN:strongswan:{_DRIVERS}.ipsec.IPsecVPNDriver:default",),
            extensions={"l3-agent": ("vpnaas",)},
            rpc=True,
            programs=_PROGRAMS,
            obstacle=_obstacle,
        ),
    },
    distributions=("neutron-vpnaas",),
    models=("neutron_vpnaas.db.models.head",),
    stamp="alembic_version_vpnaas",
)
