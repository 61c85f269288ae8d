"""Operations on servers: boot on the fake hypervisor of the client's site or of another site, rename, delete."""

from __future__ import annotations

from random import Random
from typing import Any

from atoll.bench.api import Answer
from atoll.bench.faults.operation import ClientModel, Operation, Request, Session, Workload

HOLD = 3
"""Greatest number of servers that one client keeps: enough for non-empty lists, too few for any quota."""

_ELSEWHERE_SHARE = 0.4


def _draw(random: Random, model: ClientModel) -> tuple[str, str, dict[str, Any]]:
    live = model.live("server")
    if not live or (len(live) < HOLD and random.random() < 0.4):
        elsewhere = [site for site in model.sites if site != model.site]
        zone = random.choice(elsewhere) if elsewhere and random.random() < _ELSEWHERE_SHARE else ""
        resource = model.new("server")
        return "server.create", resource, {"name": resource, "zone": zone}
    resource = random.choice(live)
    if random.random() < 0.3:
        return "server.rename", resource, {"name": f"{resource}-{random.getrandbits(20):05x}"}
    model.drop(resource)
    return "server.delete", resource, {}


def _request(session: Session, operation: Operation) -> Request | None:
    if operation.kind == "server.create":
        return Request("compute", "POST", "/servers", {"server": _body(session, operation)})
    server = session.id(operation.resource)
    if not server:
        return None
    if operation.kind == "server.delete":
        return Request("compute", "DELETE", f"/servers/{server}", id=server)
    return Request("compute", "PUT", f"/servers/{server}", {"server": dict(operation.fields)}, id=server)


def _body(session: Session, operation: Operation) -> dict[str, Any]:
    """Return the body of the request; it names an image and a network of the client's site, even for a server at another site."""
    tenancy = session.tenancy
    body = {
        "name": operation.fields["name"],
        "imageRef": tenancy["image"],
        "flavorRef": tenancy["flavor"],
        "networks": [{"uuid": tenancy["network"]}],
    }
    return body | ({"availability_zone": operation.fields["zone"]} if operation.fields["zone"] else {})


def _made(answer: Answer) -> str:
    return str(answer.body["server"]["id"])


SERVERS = Workload("server", 2, _draw, _request, _made)
