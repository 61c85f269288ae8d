"""Serves noVNC, a web page that shows a guest's screen: the unchanged files of Debian's package."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from atoll.gateway.request.target import Refused

NOVNC = Path("/usr/share/novnc")
"""The directory of the files of the package `novnc`."""

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mp3": "audio/mpeg",
    ".oga": "audio/ogg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
"""Content types of the files that are served, by suffix; the package has programs too."""


def response(directory: Path, name: str, host: str) -> web.FileResponse:
    """Return an answer with one of the files.

    Args:
        directory: the directory of noVNC's files.
        name: the path below the directory.
        host: the name or address and port by which the client reaches this gateway.

    Raises:
        Refused: noVNC is not installed, or has no such file.
    """
    if not (directory / "core" / "rfb.js").is_file():
        raise Refused(501, f"noVNC is not installed at this site: expected it in {directory}; install it with `apt install novnc`")
    root = directory.resolve()
    path = (root / name).resolve()
    if path.suffix not in _TYPES or not path.is_relative_to(root) or not path.is_file():
        raise Refused(404, f"noVNC has no file {name}")
    return web.FileResponse(path, headers={"Content-Type": _TYPES[path.suffix], **_guards(host)})


def _guards(host: str) -> dict[str, str]:
    """Return headers that keep the token in the page's URL from other sites, and the page from connecting to another host."""
    policy = {
        "default-src": "'self'",
        "script-src": "'self' 'unsafe-inline'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "connect-src": f"'self' ws://{host} wss://{host}",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
