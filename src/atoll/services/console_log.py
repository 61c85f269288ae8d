"""The tokens of consoles stay out of Nova's log: whoever reads one is let in to a guest as long as it is good, for ten minutes.

Nova's own proxies look tokens up in its database. The gateway asks the API, with the token in the path; and the API's request log
(nova/api/openstack/requestlog.py) writes down every path. Added: a filter in front of that.
"""

from __future__ import annotations

import logging
import re

LOGGER = "nova.api.openstack.requestlog"

_TOKEN = re.compile(r"(/os-console-auth-tokens/)[^/?]+")


def mask(record: logging.LogRecord) -> bool:
    """Take the token out of what is about to be logged; nothing is held back."""
    if isinstance(record.args, dict) and isinstance(uri := record.args.get("REQUEST_URI"), str):
        record.args = {**record.args, "REQUEST_URI": _TOKEN.sub(r"\1***", uri)}
    return True


def install() -> None:
    """Have Nova's APIs in this process log no tokens."""
    logging.getLogger(LOGGER).addFilter(mask)
