"""Error answers of the gateway itself, in the form that the clients of each service print."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from atoll.gateway.request.call import Reply, json_reply

_NOVA_DEFAULT = "computeFault"
_NOVA = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest", 413: "overLimit", 503: "serviceUnavailable"}
"""Names of errors by status, as in `nova.api.openstack.wsgi.Fault._fault_names`."""


def fault(service: str, status: int, message: str, site: str) -> Reply:
    """Return an error answer.

    Args:
        service: the service whose client reads the answer; empty if it is not known.
        status: the HTTP status.
        message: the error, as one sentence.
        site: the site that answers.
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
    """Return 503, because the answer would have to come from sites that can't be reached.

    Args:
        service: the service whose client reads the answer.
        sites: the sites that can't be reached.
        here: the site that answers.
    """
    names = sorted(sites)
    which = f"site {names[0]} can't" if len(names) == 1 else f"sites {', '.join(names)} can't"
    reply = fault(service, 503, f"{which} be reached from {here}", here)
    reply.headers["X-Atoll-Missing"] = ",".join(names)
    return reply


def unproven(service: str, issuer: str, here: str) -> Reply:
    """Return 503, because it is unknown here whether a token is valid.

    Args:
        service: the service whose client reads the answer.
        issuer: the site that issued the token and can't be reached.
        here: the site that answers.
    """
    message = f"site {here} lacks identity data of the token, and site {issuer}, which issued it, can't be reached: try again later"
    reply = fault(service, 503, message, here)
    reply.headers["X-Atoll-Missing"] = issuer
    reply.headers["Retry-After"] = "5"
    return reply
