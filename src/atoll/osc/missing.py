"""One line on standard error about the sites that an answer lacks: the gateway names them in the header `X-Atoll-Missing`."""

from __future__ import annotations

import sys
from typing import Any

HEADER = "X-Atoll-Missing"


class Notice:
    """A hook of a requests session, which is called with each response. Each site is named once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, response: Any, **_options: Any) -> None:
        """Write the line, if the answer lacks a site that has not been named; an answer that is an error of the gateway names it itself."""
        if response.status_code == 503:
            return
        names = sorted({name.strip() for name in response.headers.get(HEADER, "").split(",") if name.strip()} - self._told)
        if names:
            self._told.update(names)
            which = f"site {names[0]} does" if len(names) == 1 else f"sites {', '.join(names)} do"
            sys.stderr.write(f"warning: {which} not answer: what is only there is missing or UNKNOWN ({HEADER})\n")
