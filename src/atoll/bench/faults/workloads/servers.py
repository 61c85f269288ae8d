"""Operations on servers: boot on the fake hypervisor of the client's site or of another site, rename, delete."""

from __future__ import annotations

from random import Random
from typing import Any

from atoll.bench.api import Answer
from atoll.bench.faults.operation import Book, Operation, Request, Session, Workload

HOLD = 3
"""Greatest number of servers that one client keeps: enough for non-empty lists, too few for any quota."""

_ELSEWHERE_SHARE = 0.4


def _draw(random: Random, book: Book) -> tuple[str, str, dict[str, Any]]:
    live = book.live("server")
    if not live or (len(live) < HOLD and random.random() < 0.4):
        elsewhere = [site for site in book.sites if site != book.site]
        zone = random.choice(elsewhere) if elsewhere and random.random() < _ELSEWHERE_SHARE else ""
        thing = book.new("server")
        return "server.create", thing, {"name": thing, "zone": zone}
    thing = random.choice(live)
    if random.random() < 0.3:
        return "server.rename", thing, {"name": f"{thing}-{random.getrandbits(20):05x}"}
    book.drop(thing)
    return "server.delete", thing, {}


def _request(session: Session, operation: Operation) -> Request | None:
    if operation.kind == "server.create":
        return Request("compute", "POST", "/servers", {"server": _body(session, operation)})
    server = session.id(operation.thing)
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
