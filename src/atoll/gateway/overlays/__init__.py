"""Get the base of an overlay, or its launch image, from another site for a server of this site, with the token of the server's creator."""

from atoll.gateway.overlays.api import OverlayBases, concerns
from atoll.gateway.overlays.launches import LaunchImages

__all__ = ["LaunchImages", "OverlayBases", "concerns"]
