"""Brings resources of other sites that a request refers to and this site lacks, such as images, flavors, key pairs and networks."""

from atoll.gateway.bring.bringer import Bringer
from atoll.gateway.bring.keeper import Keeper

__all__ = ["Bringer", "Keeper"]
