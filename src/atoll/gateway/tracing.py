"""Records the requests that a gateway answers, and those that it sends to services and to other gateways."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from aiohttp import web
from multidict import CIMultiDict
from opentelemetry.trace import SpanKind

from atoll.gateway.options import Options
from atoll.gateway.request.call import Call
from atoll.trace import headers, names, process, propagation, sampling, spans, store, tree
from atoll.trace.attributes import PEER_SERVICE, PEER_SITE
from atoll.trace.hooks import threads
from atoll.trace.recorder import Identity, Recorder
from atoll.trace.spans import Hop

if TYPE_CHECKING:
    from aiohttp import ClientResponse

SERVICES = {"identity": "keystone", "image": "glance", "compute": "nova", "network": "neutron"}
"""The names of services in traces by the first segment of a request's path, where the two differ."""

_HOPS: WeakKeyDictionary[ClientResponse, Hop] = WeakKeyDictionary()


def start(options: Options) -> Recorder | None:
    """Begin to record in a gateway's process; return `None` if tracing is off."""
    made = process.start(Identity("gateway", options.site, options.cloud), options.trace, options.tls.parent)
    if made is not None:
        threads.install()
    return made


async def answered(
    request: web.BaseRequest,
    answer: Callable[[], Awaitable[web.StreamResponse]],
    *,
    client: Callable[[], str | None] | None = None,
    peer: str = "",
) -> web.StreamResponse:
    """Answer a request of a client or of another gateway, and record the request if it is to be recorded.

    Args:
        request: the request, as it arrived.
        answer: answers it.
        client: for a request of a client. Returns the client's user, empty for a stranger, if the request is recorded because the client
            asks for it; `None` if chance decides. A client may not name a service of the cloud as the sender.
        peer: the site that sent the request, if another site did; all traces of one site share their space in the store.
    """
    current = sampling.installed()
    if current is None:
        return await answer()
    sent = request.headers
    incoming = headers.read(sent.get(headers.TRACEPARENT), sent.get(headers.TRACESTATE), sent.get(headers.OSPROFILER))
    asked_by = f"site {peer}" if peer and incoming is not None and incoming.sampled else None
    if client is not None and incoming is not None:
        incoming, asked_by = _of_client(incoming, client, current)
    # A console is open for hours, and no message of it is a request.
    may_begin = "Upgrade" not in sent
    entered = propagation.enter(current, incoming, SpanKind.SERVER, lambda: _describe(request, asked_by), may_begin=may_begin)
    hop = entered.hop
    if hop is None:
        try:
            return await answer()
        finally:
            entered.leave()
    try:
        response = await answer()
        hop.status(response.status)
        hop.sizes(
            _size(sent) + len(request.raw_path) + 16 + spans.length(sent.get("Content-Length")),
            _size(response.headers) + response.body_length + 17,
        )
    except BaseException as error:
        hop.failed(error)
        raise
    else:
        return response
    finally:
        entered.end()


def _of_client(incoming: headers.Incoming, client: Callable[[], str | None], current: Recorder) -> tuple[headers.Incoming, str | None]:
    """Return a client's trace headers without those of services, and the user who asked for the recording; `None` if chance decides."""
    if incoming.service != tree.CLIENT:
        incoming = incoming._replace(service="", site="")
    if not incoming.sampled:
        return incoming, None
    user = client()
    return (incoming, user) if user is not None else (incoming._replace(sampled=current.chance()), None)


def _describe(request: web.BaseRequest, asked_by: str | None) -> tuple[str, dict[str, str]]:
    parts = urlsplit(request.raw_path)
    attributes = {"http.request.method": request.method, "url.path": names.safe_path(parts.path)}
    if asked_by is not None:
        attributes[store.ASKED_BY] = asked_by
    if parts.query:
        attributes["url.query"] = names.safe_query(parts.query)
    return names.http(attributes["http.request.method"], attributes["url.path"]), attributes


def outgoing(given: CIMultiDict[str]) -> CIMultiDict[str]:
    """Return the headers of a request to a service or another gateway, which continues the current trace.

    Args:
        given: the headers without this gateway's part in the trace; they are not changed.
    """
    told = propagation.outgoing()
    if not told:
        return given
    result = CIMultiDict(given)
    result.popall(headers.TRACESTATE, None)
    result.update(told)
    return result


async def asked(
    site: str, call: Call, given: CIMultiDict[str], ask: Callable[[CIMultiDict[str]], Awaitable[ClientResponse]]
) -> ClientResponse:
    """Send a request, and record it if it is part of a trace; `ended` ends the span.

    Args:
        site: the site that gets the request: this site, for one of its services, or another site.
        call: the request.
        given: the call's headers.
        ask: sends the call with the headers that it gets as an argument.
    """
    current = sampling.sampled()
    if current is None:
        return await ask(outgoing(given))
    peer = SERVICES.get(call.service, call.service) if site == current.identity.site else "gateway"
    attributes = {"http.request.method": call.method, "url.path": names.safe_path(call.path), PEER_SERVICE: peer, PEER_SITE: site}
    if call.query:
        attributes["url.query"] = names.safe_query(call.query)
    hop = spans.begin(current, names.http(call.method, call.path), SpanKind.CLIENT, attributes)
    try:
        response = await ask(outgoing(given))
    except BaseException as error:
        hop.failed(error)
        hop.end()
        raise
    hop.leave()
    hop.status(response.status)
    size = len(call.body) if isinstance(call.body, bytes) else spans.length(given.get("Content-Length"))
    hop.sizes(_size(given) + len(call.target) + 16 + size, None)
    _HOPS[response] = hop
    return response


def ended(response: ClientResponse, received: int) -> None:
    """Note that an answer was read, or is not read any further.

    Args:
        response: the answer.
        received: bytes of its body.
    """
    hop = _HOPS.pop(response, None) if _HOPS else None
    if hop is not None:
        hop.sizes(None, _size(response.headers) + received + 17)
        hop.end()


def _size(sent: object) -> int:
    items = sent.items() if hasattr(sent, "items") else ()
    return sum(len(name) + len(value) + 4 for name, value in items)
