"""The warning of the `openstack` client about missing sites, which the gateway names in the header `X-Atoll-Missing`."""

from __future__ import annotations

import sys
from typing import Any

HEADER = "X-Atoll-Missing"


class Notice:
    """A response hook of a requests session that names each missing site once, on standard error."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, response: Any, **_options: Any) -> None:
        """Write a line if the answer lacks a site that was not named before. The text of a 503 names the sites itself."""
        if response.status_code == 503:
            return
        names = sorted({name.strip() for name in response.headers.get(HEADER, "").split(",") if name.strip()} - self._told)
        if names:
            self._told.update(names)
            which, whose = (f"site {names[0]} does", "its") if len(names) == 1 else (f"sites {', '.join(names)} do", "their")
            sys.stderr.write(f"warning: {which} not answer: {whose} own resources are missing or UNKNOWN ({HEADER})\n")
