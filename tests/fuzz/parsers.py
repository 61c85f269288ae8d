"""Fuzz targets for the parsers of requests: each may only parse its input or refuse it with its own error."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from multidict import CIMultiDict
from ports import Finding, headers_of

from atoll.errors import AtollError
from atoll.gateway import scope
from atoll.gateway.bring.references import references
from atoll.gateway.console import url as console_url
from atoll.gateway.copies.draft import draft, of_user
from atoll.gateway.copies.pending_operation import resource_of
from atoll.gateway.lists import paging
from atoll.gateway.request import headers as heads
from atoll.gateway.request import paths
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.target import Refused, parse
from atoll.gateway.resolve.placing import creation
from atoll.gateway.resolve.routes import match
from atoll.services.patches.shared.slow_clients import BODY, HEAD, missing

_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD")


_CREATIONS = (("compute", "/v2.1/servers"), ("network", "/v2.0/subnets"), ("image", "/v2/images"), ("compute", "/v2.1/os-keypairs"))


def request(data: bytes) -> None:
    """Parse a request target, headers and a body from the lines of the input."""
    first, _, rest = data.partition(b"\n")
    head, _, body = rest.partition(b"\n\n")
    try:
        target = parse(first[1:].decode("latin-1"))
        kept = heads.of_client(headers_of(head))
        heads.of_peer(headers_of(head), "compute")
    except Refused:
        return
    heads.microversion(kept)
    heads.request_id(kept.get("x-openstack-request-id"))
    if target.scope is not None:
        scoped(target.scope.encode())
    call = Call(_METHODS[first[0] % len(_METHODS)], target.service, target.path, target.query, kept, body, "req-x", "ann")
    of_user(call, None)
    console_url.requests_console(call)
    resource_of(call.path)
    references(call)
    _route(call)


def _route(call: Call) -> None:
    route = match(call.method, call.service, call.path)
    if route.resource is None:
        return
    try:
        page = paging.parse(call, route.resource)
        paging.ask(page, route.resource, 10, "m")
        paging.links(call, route, page, ["a", "b"])
    except paging.Unclear:
        pass
    for parent in creation(call, route.resource, {"paris"}).parents:
        if parent.path.count("/") != 3 or set(parent.path) & set("?# \r\n"):
            raise Finding(parent.path)
    with suppress(ValueError):
        draft(call, route.resource, several=True, traced=True)


def scoped(data: bytes) -> None:
    """Parse an expression of the scope language."""
    try:
        parsed = scope.parse(data.decode("latin-1"))
    except AtollError:
        return
    prefix = scope.prefix_of(parsed)
    if "%" in prefix or " " in prefix:
        raise Finding(prefix)


def consoles(data: bytes) -> None:
    """Parse the URL and the token of a console."""
    text = data.decode("latin-1")
    console_url.console_address(console_url.PREFIX + text)
    console_url.file_of(console_url.PREFIX + text)
    token = console_url.token_of(text)
    if token is not None and len(token) != 36:
        raise Finding(token)
    console_url.shown(text)
    console_url.same_origin([text], "paris:8080")
    reply = Reply(200, CIMultiDict(), data, "paris")
    console_url.through_gateway(reply, "paris:8080")
    console_url.new_token(reply)


def segments(data: bytes) -> None:
    """Parse an id, which must be one path segment."""
    try:
        quoted = paths.segment(data.decode("utf-16", "surrogatepass"))
    except ValueError:
        return
    if set(quoted) & set("/?# \r\n\\") or quoted in {"", ".", ".."}:
        raise Finding(quoted)


def arrivals(data: bytes) -> None:
    """Parse the beginning of a request to a service."""
    needed = missing(data)
    if needed is not None and not 0 <= needed <= HEAD + 4 + BODY:
        raise Finding(str(needed))


def json_bodies(data: bytes) -> None:
    """Parse a body that the gateway reads."""
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return
    headers: CIMultiDict[str] = CIMultiDict()
    for service, path in (
        ("compute", "/v2.1/servers"),
        ("network", "/v2.0/subnets"),
        ("image", "/v2/images"),
        ("compute", "/v2.1/os-keypairs"),
    ):
        call = Call("POST", service, path, "", headers, data, "req-x", "ann")
        references(call)
        _route(call)


TARGETS: dict[str, Any] = {
    "request": request,
    "scope": scoped,
    "consoles": consoles,
    "segments": segments,
    "arrivals": arrivals,
    "json": json_bodies,
}
