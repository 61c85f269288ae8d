"""The key under which a request to the peer port carries the name of the site that sent it, as its certificate proves."""

from __future__ import annotations

from aiohttp import web

PEER: web.RequestKey[str] = web.RequestKey("peer", str)
"""Name of the site whose gateway sent the request."""
