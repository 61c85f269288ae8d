"""Bases of overlays: nova-compute has the gateway bring the base of an overlay from another site, with the server's creator's token."""

from atoll.gateway.overlays.api import OverlayBases, concerns

__all__ = ["OverlayBases", "concerns"]
