"""The network services, and their implementations on the data plane of a site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

from atoll.services.contract import Settings
from atoll.services.neutron.network_services import bgp, bgpvpn, builtin, firewall, load_balancer, sfc, tap, vpn
from atoll.services.neutron.network_services.contract import Implementation, NetworkService

REGISTRY: dict[str, NetworkService] = {
    service.name: service
    for service in (
        builtin.TRUNK,
        builtin.METERING,
        builtin.QOS,
        builtin.SEGMENTS,
        builtin.PORT_FORWARDING,
        builtin.NETWORK_SEGMENT_RANGE,
        builtin.LOG,
        firewall.FIREWALL,
        tap.TAP,
        sfc.SFC,
        bgpvpn.BGPVPN,
        bgp.BGP,
        vpn.VPN,
        load_balancer.LOAD_BALANCER,
    )
}
"""All network services by name, in the order in which Neutron loads them."""

T = TypeVar("T")


def implementations(settings: Settings) -> list[Implementation]:
    """Return the implementations of a site's network services on the site's data plane."""
    return implementations_of(settings.network_services, settings.network)


def implementations_of(names: Iterable[str], network: str) -> list[Implementation]:
    """Return the implementations of the named network services, and of those that every site has, on a data plane.

    Args:
        names: the network services that a site's YAML names.
        network: the site's data plane.
    """
    named = set(names)
    has = (each for each in REGISTRY.values() if each.name in named or network in each.default)
    return [each.implementations[network] for each in has if network in each.implementations]


def joined(lists: Iterable[Sequence[T]]) -> tuple[T, ...]:
    """Return the items of lists without repetitions, in the order in which they occur first."""
    return unique(chain.from_iterable(lists))


def unique(values: Iterable[T]) -> tuple[T, ...]:
    """Return values without repetitions, in the order in which they occur first."""
    return tuple(dict.fromkeys(values))
