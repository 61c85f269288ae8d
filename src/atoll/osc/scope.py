"""`openstack --os-scope '{compute: lyon}' --os-strict`: adds headers for the gateway to every request of the client.

`--os-scope` is the header `X-Scope`. `--os-strict` is `X-Atoll-Strict: 1`: a list that would lack a site is refused. Without it, the client
writes one line about the sites that an answer lacks (`missing`).

The client's plugins are modules with these names (openstackclient/common/clientmanager.py, PluginModule). A plugin may add global options,
but takes no part in making the session that sends the requests. The options become the configuration of a cloud, so the headers are added
where a session is made from that (openstack/config/cloud_region.py). The gateway checks and interprets the scope.
"""

from __future__ import annotations

import argparse
import functools
import os
from typing import Any
from urllib.parse import quote, unquote

from openstack.config.cloud_region import CloudRegion
from osc_lib import utils

from atoll.osc import missing

API_NAME = "atoll"
API_VERSION_OPTION = "os_atoll_api_version"
DEFAULT_API_VERSION = "1"

_HEADER = "X-Scope"
_KEY = "atoll_scope"  # not `scope`, which the plugins for OpenID Connect use
_STRICT_HEADER = "X-Atoll-Strict"
_STRICT_KEY = "atoll_strict"


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options to the parser and return it; the client calls this once, before it reads its command line."""
    parser.add_argument(
        "--os-scope",
        metavar="<scope>",
        dest=_KEY,
        # openstack/config/loader.py replaces text between braces by the values of other options: quoting hides the braces from it. The
        # variable's name does not begin with OS_, which would make it configuration.
        type=quote,
        default=utils.env("ATOLL_SCOPE"),
        help="Scope of the command, such as '{compute: paris & lyon, image: nice}' (Env: ATOLL_SCOPE)",
    )
    parser.add_argument(
        "--os-strict",
        dest=_STRICT_KEY,
        action="store_true",
        default=utils.env("ATOLL_STRICT") == "1",
        help="Refuse a list if a site does not answer (Env: ATOLL_STRICT=1)",
    )
    _send_with_every_request()
    return parser


def _send_with_every_request() -> None:
    original = CloudRegion.get_session
    notice = missing.Notice()
    if hasattr(original, "__wrapped__"):
        return  # a second shell in the same process

    @functools.wraps(original)
    def get_session(region: CloudRegion) -> Any:
        session = original(region)
        if scope := region.config.get(_KEY):
            session.additional_headers[_HEADER] = unquote(scope)
        # By convention, the trace that a command belongs to (`atoll trace run`).
        for name in ("traceparent", "tracestate"):
            if value := os.environ.get(name.upper()):
                session.additional_headers[name] = value
        if region.config.get(_STRICT_KEY):
            session.additional_headers[_STRICT_HEADER] = "1"
        hooks = session.session.hooks["response"]
        if notice not in hooks:  # the client asks for its one session repeatedly
            hooks.append(notice)
        return session

    CloudRegion.get_session = get_session
