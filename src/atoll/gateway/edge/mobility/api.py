"""ETSI MEC 021, the application mobility service, below `/amsi/v1/`: applications are notified of hand-offs, and can forbid or delay them.

A registration is metadata of the instance's server, read and written with the caller's token. Users begin hand-offs. When one begins, the
gateway checks whether the registration of the server allows it (`registrations.consent`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from multidict import CIMultiDict

from atoll.gateway.edge.applications import ID
from atoll.gateway.edge.attribute_filter import PARAMETERS, Condition, conditions_of, meets, selected
from atoll.gateway.edge.etsi import project_of
from atoll.gateway.edge.front import Body, EdgeOperation, Question, Upgraded
from atoll.gateway.edge.instances import AppInstance, instance_of, instances
from atoll.gateway.edge.mobility import registrations, subscriptions
from atoll.gateway.edge.mobility.events import Events
from atoll.gateway.edge.mobility.registrations import MOST_BYTES, REGISTERED, Registration, device_keys, registration_of
from atoll.gateway.edge.mobility.sockets import Sockets, addresses
from atoll.gateway.edge.mobility.subscriptions import KIND, Subscription, Subscriptions
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.edge.zones import Zones
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply, json_reply
from atoll.gateway.request.headers import MISSING
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites

ROOT = "/amsi/v1/"
"""First segments of the API's paths."""

SOCKET = re.compile(rf"{ROOT}subscriptions/({ID.pattern})/websocket")
"""The path of the WebSocket of a subscription."""

MOST_ADJACENT = 1000
"""Greatest number of adjacent instances in an answer."""

_TYPES = {"mobility_proc": True, "adj_app_info": False}
_REQUIRED = frozenset(("serviceConsumerId", "appInstanceCommLink"))
_REGISTERED_ID = "registeredInstanceId"


class ApplicationMobility:
    """The API of one site's gateway.

    Args:
        options: the gateway's settings.
        sites: sends requests to this site's Keystone, and to other gateways.
        zones: orders sites by distance.
        services: the services of the cloud.
        clock: Unix time.

    Attributes:
        events: the changes of hand-offs of which clients are notified.
    """

    def __init__(
        self, options: Options, sites: Sites, zones: Zones, services: UserServices, clock: Callable[[], float] = time.time
    ) -> None:
        self._site = options.site
        self._zones = zones
        self._services = services
        self._clock = clock
        host = f"{options.host}:{options.public_port}"
        self._base = f"http://{host}{ROOT}"
        self._socket_base = f"ws://{host}{ROOT}"
        self._subscriptions = Subscriptions(options.data / "mobility.db")
        self.events = Events(sites, self._subscriptions, clock)
        self._sockets = Sockets(sites, services, self.events, self._base, clock)
        service, subscription = f"app_mobility_services/({ID.pattern})", f"subscriptions/({ID.pattern})"
        self.operations = (
            _operation("GET", "app_mobility_services", self._list, query=PARAMETERS),
            _operation("POST", "app_mobility_services", self._register),
            _operation("GET", service, self._show),
            _operation("PUT", service, self._replace),
            _operation("DELETE", service, self._deregister),
            _operation("POST", f"{service}/deregister_task", self._await_expiry, body=Body.NONE),
            _operation("GET", "subscriptions", self._subscribed, query=frozenset(("subscriptiontype",))),
            _operation("POST", "subscriptions", self._subscribe),
            _operation("GET", subscription, self._subscription),
            _operation("PUT", subscription, self._change),
            _operation("DELETE", subscription, self._unsubscribe),
            _operation("GET", f"{subscription}/websocket", self._listen),
            _operation("GET", "queries/adjacent_app_instances", self._adjacent, query=PARAMETERS),
        )

    async def stop(self) -> None:
        """Close the WebSockets, and stop sending events to other sites."""
        await self._sockets.stop()
        await self.events.stop()

    def close(self) -> None:
        """Close the file of the subscriptions."""
        self._subscriptions.close()

    # Registrations

    async def _list(self, question: Question) -> Reply:
        found, missing = await self._registered(question)
        return self._listed([registration.data() for _instance, registration in found], question, missing)

    async def _register(self, question: Question) -> Reply:
        wanted = registrations.wanted(question.body, self._clock())
        metadata = await self._metadata(question, wanted.instance, "there is no such application instance")
        if registration_of(wanted.instance, metadata, self._clock()) is not None:
            raise Problem(403, "the instance is registered already: change or delete its registration")
        await self._write(question, wanted, metadata)
        reply = self._shown(201, wanted)
        reply.headers["Location"] = f"{self._base}app_mobility_services/{segment(wanted.instance)}"
        return reply

    async def _show(self, question: Question) -> Reply:
        return self._shown(200, (await self._registration(question))[0])

    async def _replace(self, question: Question) -> Reply:
        wanted = registrations.wanted(question.body, self._clock(), question.names[0])
        _registration, metadata = await self._registration(question)
        await self._write(question, wanted, metadata)
        return self._shown(200, wanted)

    async def _deregister(self, question: Question) -> Reply:
        registration, metadata = await self._registration(question)
        # The devices go last: a registration that is removed in part has no devices that forbid anything.
        for key in (REGISTERED, *device_keys(metadata)):
            await self._remove(question, registration.instance, key)
        return self._empty()

    async def _await_expiry(self, question: Question) -> Reply:
        registration, _metadata = await self._registration(question)
        if not registration.expiry_s:
            raise Problem(403, "the registration has no expiryTime, so no timer ends it: delete it")
        return self._empty()

    async def _registration(self, question: Question) -> tuple[Registration, dict[str, Any]]:
        """Return the registration that a path names, and the metadata of its server.

        Raises:
            Problem: the caller's project has no such registration.
            Unreachable: a site that the request needs does not answer.
        """
        missing = "there is no such application mobility service"
        metadata = await self._metadata(question, question.names[0], missing)
        if (found := registration_of(question.names[0], metadata, self._clock())) is None:
            raise Problem(404, missing)
        return found, metadata

    async def _metadata(self, question: Question, instance: str, missing: str) -> dict[str, Any]:
        """Return the metadata of an instance of the caller's project.

        Raises:
            Problem: the project has no such instance; the message is `missing`.
            Unreachable: a site that the request needs does not answer.
        """
        server = await self._services.show(question, "compute", f"/v2.1/servers/{segment(instance)}", "server")
        if server is None or instance_of(server, question.caller.project) is None:
            raise Problem(404, missing)
        return dict(server["metadata"])

    async def _write(self, question: Question, registration: Registration, before: dict[str, Any]) -> None:
        """Write a registration into the metadata of its server, in place of the earlier one.

        Raises:
            Problem: Nova refuses the change.
            Unreachable: a site that the request needs does not answer.
        """
        metadata = registration.metadata()
        target = f"/v2.1/servers/{segment(registration.instance)}/metadata"
        self._services.expect(await self._services.send(question, "POST", "compute", target, {"metadata": metadata}))
        for key in device_keys(before):
            if key not in metadata:
                await self._remove(question, registration.instance, key)

    async def _remove(self, question: Question, instance: str, key: str) -> None:
        reply = await self._services.send(question, "DELETE", "compute", f"/v2.1/servers/{segment(instance)}/metadata/{segment(key)}")
        if reply.status != 404:
            self._services.expect(reply)

    async def _registered(self, question: Question) -> tuple[list[tuple[AppInstance, Registration]], str]:
        """Return the registered instances of the caller's project, and the sites that did not answer.

        Raises:
            Problem: Nova refuses the list.
            Unreachable: a site did not answer, and the operator has chosen `lists: strict`.
        """
        listed = await self._services.list(question, "compute", "/v2.1/servers/detail", "servers")
        found: list[tuple[AppInstance, Registration]] = []
        for server in listed.items:
            instance = instance_of(server, question.caller.project)
            registration = registration_of(instance.id, server["metadata"], self._clock()) if instance is not None else None
            if instance is not None and registration is not None:
                found.append((instance, registration))
        return found, listed.missing

    # Adjacent instances

    async def _adjacent(self, question: Question) -> Reply:
        registered, _missing = await self._registered(question)
        every, missing = await instances(self._services, question)
        conditions = conditions_of(question.query)
        pairs = self._pairs([instance for instance, _registration in registered], every, conditions)
        found = list(islice(pairs, MOST_ADJACENT + 1))
        if len(found) > MOST_ADJACENT:
            raise invalid(f"the answer has more than {MOST_ADJACENT} items: expected a filter that at most {MOST_ADJACENT} pass")
        return self._listed(found, question, missing)

    def _pairs(
        self, registered: Iterable[AppInstance], every: Iterable[AppInstance], conditions: Sequence[Condition]
    ) -> Iterator[dict[str, Any]]:
        """Yield the adjacent instances that pass a filter, by registered instance, those of the nearest site first.

        A condition concerns either the registered instance or its neighbour. So each instance is compared with the filter once, and no pair
        is made that does not pass: a project with 1,000 instances at each of two sites has a million pairs.
        """
        of_registered = [each for each in conditions if each[1][0] == _REGISTERED_ID]
        of_neighbour = [each for each in conditions if each[1][0] != _REGISTERED_ID]
        near: dict[str, dict[str, list[dict[str, Any]]]] = {}  # the neighbours by application and site
        for other in sorted(every, key=lambda instance: instance.id):
            shown = self._neighbour(other) if other.status == "ready" and addresses(other) else None
            if shown is not None and meets(shown, of_neighbour):
                near.setdefault(other.app, {}).setdefault(other.site, []).append(shown)
        for instance in registered:
            if not meets({_REGISTERED_ID: instance.id}, of_registered):
                continue
            at = near.get(instance.app, {})
            for site in self._zones.by_distance(instance.site, at.keys() - {instance.site}):
                yield from (shown | {_REGISTERED_ID: instance.id} for shown in at[site])

    @staticmethod
    def _neighbour(other: AppInstance) -> dict[str, Any]:
        return {
            "appInstanceId": other.id,
            "appDId": other.app,
            "appInstanceCommLink": addresses(other),
            "mecHostInformation": {"hostName": other.site, "hostId": {"site": other.site}},
        }

    # Subscriptions

    async def _subscribed(self, question: Question) -> Reply:
        kind = question.query.get("subscriptiontype", "mobility_proc")
        if kind not in _TYPES:
            raise invalid(f"subscriptiontype is unknown: expected {' or '.join(_TYPES)}")
        self._expire()
        found = self._subscriptions.of(project_of(question)) if _TYPES[kind] else []
        links = [{"href": self._href(subscription), "subscriptionType": KIND} for subscription in found]
        body = {"_links": {"self": {"href": f"{self._base}subscriptions"}, "subscription": links}}
        return json_reply(200, {"SubscriptionLinkList": body}, self._site)

    async def _subscribe(self, question: Question) -> Reply:
        self._expire()
        subscription = subscriptions.wanted(question.body, project_of(question, writes=True), self._clock())
        self._subscriptions.put(subscription)
        reply = self._data(201, subscription)
        reply.headers["Location"] = self._href(subscription)
        return reply

    async def _subscription(self, question: Question) -> Reply:
        return self._data(200, self._own(question))

    async def _change(self, question: Question) -> Reply:
        project = project_of(question, writes=True)
        held = self._own(question)
        changed = subscriptions.wanted(question.body, project, self._clock(), held.id)
        self._subscriptions.put(changed)
        self.events.arrival(held.id).set()  # an open WebSocket waits for another deadline from now on
        return self._data(200, changed)

    async def _unsubscribe(self, question: Question) -> Reply:
        project_of(question, writes=True)
        held = self._own(question)
        self._subscriptions.delete(held.id)
        await self._sockets.end(held.id)
        self.events.forget(held.id)
        return self._empty()

    async def _listen(self, question: Question) -> Upgraded:
        project_of(question, writes=True)  # it ends the WebSocket of another client, and takes the notifications
        return Upgraded(partial(self._sockets.serve, question=question, identifier=self._own(question).id))

    def _own(self, question: Question) -> Subscription:
        """Return the subscription that a path names.

        Raises:
            Problem: the caller's project has no such subscription at this gateway.
        """
        found = self._subscriptions.get(question.names[0], project_of(question))
        if found is None:
            raise Problem(404, f"there is no such subscription at {self._site}: each site has its own")
        return found

    def _expire(self) -> None:
        for identifier in self._subscriptions.expire(self._clock()):
            self.events.forget(identifier)

    def _href(self, subscription: Subscription) -> str:
        return f"{self._base}subscriptions/{segment(subscription.id)}"

    def _data(self, status: int, subscription: Subscription) -> Reply:
        shown: dict[str, Any] = {
            "subscriptionType": KIND,
            "websockNotifConfig": {"websocketUri": f"{self._socket_base}subscriptions/{segment(subscription.id)}/websocket"},
            "_links": {"self": {"href": self._href(subscription)}},
            "filterCriteria": subscription.criteria.model_dump(by_alias=True, exclude_none=True),
        }
        if subscription.deadline is not None:
            shown["expiryDeadline"] = subscription.deadline.model_dump(by_alias=True)
        return json_reply(status, {KIND: shown}, self._site)

    # Answers

    def _shown(self, status: int, registration: Registration) -> Reply:
        return json_reply(status, {"RegistrationInfo": registration.data()}, self._site)

    def _listed(self, items: list[dict[str, Any]], question: Question, missing: str) -> Reply:
        """Return the answer to a request for a list.

        Raises:
            Problem: the filter is malformed.
        """
        reply = json_reply(200, selected(items, question.query, _REQUIRED), self._site)
        if missing:
            reply.headers[MISSING] = missing
        return reply

    def _empty(self) -> Reply:
        return Reply(204, CIMultiDict(), b"", self._site)


def _operation(method: str, pattern: str, answer: Any, *, body: Body | None = None, query: frozenset[str] = frozenset()) -> EdgeOperation:
    show = f"{method} {ROOT}{pattern.replace(f'({ID.pattern})', 'ID')}"
    rule = body or (Body.REQUIRED if method in {"POST", "PUT"} else Body.NONE)
    return EdgeOperation(method, re.compile(f"{ROOT}{pattern}"), answer, show, rule, MOST_BYTES if rule is not Body.NONE else 0, query)
