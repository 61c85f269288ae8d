"""noVNC, which shows a guest's screen in a browser: the files of Debian's package, as they are."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from atoll.gateway.request.target import Refused

NOVNC = Path("/usr/share/novnc")
"""Where the package `novnc` has its files."""

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
"""What there is to be shown; the package has programs too."""


def response(directory: Path, name: str, host: str) -> web.FileResponse:
    """One of the files.

    Args:
        directory: where they are.
        name: path below it, without relative parts.
        host: this gateway, as the client calls it.

    Raises:
        Refused: there is no such file.
    """
    if not (directory / "core" / "rfb.js").is_file():
        raise Refused(501, f"noVNC is not installed here: expected it in {directory}; `apt install novnc` on the machine of this site")
    root = directory.resolve()
    path = (root / name).resolve()
    if path.suffix not in _TYPES or not path.is_relative_to(root) or not path.is_file():
        raise Refused(404, f"noVNC has no file {name}")
    return web.FileResponse(path, headers={"Content-Type": _TYPES[path.suffix], **_guards(host)})


def _guards(host: str) -> dict[str, str]:
    """The page's URL holds a token, and may name another host to connect to: neither is to get anywhere else."""
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
