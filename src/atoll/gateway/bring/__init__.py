"""What a request refers to and this site lacks is brought here, under its own id: images, flavors, key pairs, networks, security groups."""

from atoll.gateway.bring.bringer import Bringer
from atoll.gateway.bring.keeper import Keeper

__all__ = ["Bringer", "Keeper"]
