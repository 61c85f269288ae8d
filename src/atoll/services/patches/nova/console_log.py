"""Console tokens that stay out of Nova's log: whoever reads one has access to a guest for ten minutes.

Nova's own proxies look tokens up in its database. The gateway asks the API, with the token in the path, and the API's request log
(nova/api/openstack/requestlog.py) records every path. A filter masks the token first.
"""

from __future__ import annotations

import logging
import re

LOGGER = "nova.api.openstack.requestlog"

_TOKEN = re.compile(r"(/os-console-auth-tokens/)[^/?]+")


def mask(record: logging.LogRecord) -> bool:
    """Replace the token in a log record; return True, so that no record is dropped."""
    if isinstance(record.args, dict) and isinstance(uri := record.args.get("REQUEST_URI"), str):
        record.args = {**record.args, "REQUEST_URI": _TOKEN.sub(r"\1***", uri)}
    return True


def install() -> None:
    """Have Nova's APIs log no tokens, in this process."""
    logging.getLogger(LOGGER).addFilter(mask)
