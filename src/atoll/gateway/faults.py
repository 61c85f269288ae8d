"""What the gateway itself answers when it refuses or fails, in the form that the clients of each service print."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from atoll.gateway.request.call import Reply, json_reply

_NOVA_DEFAULT = "computeFault"
_NOVA = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest", 413: "overLimit", 503: "serviceUnavailable"}
"""nova.api.openstack.wsgi.Fault._fault_names"""


def fault(service: str, status: int, message: str, site: str) -> Reply:
    """An error.

    Args:
        service: whose client will read it; the empty string if no one knows.
        status: HTTP status.
        message: one sentence for people.
        site: who says so.
    """
    title = HTTPStatus(status).phrase
    if service == "compute":
        body: dict[str, object] = {_NOVA.get(status, _NOVA_DEFAULT): {"code": status, "message": message}}
    elif service == "network":
        body = {"NeutronError": {"type": title.replace(" ", ""), "message": message, "detail": ""}}
    else:
        body = {"error": {"code": status, "title": title, "message": message}}
    return json_reply(status, body, site)


def unreachable(service: str, sites: Iterable[str], here: str) -> Reply:
    """503: the answer would have to come from sites that can't be reached."""
    names = sorted(sites)
    which = f"site {names[0]} can't" if len(names) == 1 else f"sites {', '.join(names)} can't"
    reply = fault(service, 503, f"{which} be reached from {here}", here)
    reply.headers["X-Atoll-Missing"] = ",".join(names)
    return reply
