"""ETSI MEC 010-2, life cycle management, below `/app_lcm/v1/`: instances are created, instantiated, operated, terminated and deleted.

An instantiated instance is a server, so every site knows it. If the id of the instance differs from the server's, the server's metadata has
it. An instance without a server is a record at the gateway at which the instance was created or terminated.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from atoll.gateway.edge.applications import ID, Application, Applications
from atoll.gateway.edge.attribute_filter import PARAMETERS, selected
from atoll.gateway.edge.etsi import project_of
from atoll.gateway.edge.front import Body, Question
from atoll.gateway.edge.instances import AppInstance, instance_of
from atoll.gateway.edge.launcher import Launcher, network_of
from atoll.gateway.edge.lifecycle import life_bodies as bodies
from atoll.gateway.edge.lifecycle.operations import GONE, Operations
from atoll.gateway.edge.lifecycle.packages import empty, operation, refuse_subscription
from atoll.gateway.edge.lifecycle.store import IdleInstance, LifeOperation, OperationKind, State, Store
from atoll.gateway.edge.problem import Problem, undecided
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply, Unreachable, json_reply
from atoll.gateway.request.headers import MISSING
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites

ROOT = "/app_lcm/v1/"
"""First segments of the API's paths."""

INSTANCE = "atoll_app_instance"
"""Key in a server's metadata: the id of the instance, if it differs from the server's."""

DESCRIPTION = "atoll_app_description"
"""Key in a server's metadata: the description of the instance."""

_REQUIRED = frozenset(("_links", "instantiatedAppState"))
_MISSING = "there is no such application instance"


@dataclass(frozen=True)
class _Found:
    """An instance that has a server.

    Attributes:
        id: the id of the instance.
        server: the server, as Nova shows it.
        instance: the instance that the server is.
    """

    id: str
    server: Mapping[str, Any]
    instance: AppInstance


class LifeCycle:
    """The API of one site's gateway.

    Args:
        options: the gateway's settings.
        sites: the sites of the cloud.
        services: the services of the cloud.
        clock: Unix time.
    """

    def __init__(self, options: Options, sites: Sites, services: UserServices, clock: Callable[[], float] = time.time) -> None:
        self._site = options.site
        self._sites = sites
        self._base = f"http://{options.host}:{options.public_port}{ROOT}"
        self._services = services
        self._applications = Applications(services)
        self._launcher = Launcher(services)
        self._store = Store(options.data / "life-cycle.db")
        self._work = Operations(services, self._store, clock)
        self._changing: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        one, done = f"app_instances/({ID.pattern})", f"app_lcm_op_occs/({ID.pattern})"
        self.operations = (
            operation(ROOT, "POST app_instances", self._create, body=Body.REQUIRED),
            operation(ROOT, "GET app_instances", self._list, query=PARAMETERS),
            operation(ROOT, f"GET {one}", self._show),
            operation(ROOT, f"DELETE {one}", self._delete),
            operation(ROOT, f"POST {one}/instantiate", self._instantiate, body=Body.REQUIRED),
            operation(ROOT, f"POST {one}/operate", self._operate, body=Body.REQUIRED),
            operation(ROOT, f"POST {one}/terminate", self._terminate, body=Body.REQUIRED),
            operation(ROOT, f"POST {one}/configure_platform_for_app", self._configure, body=Body.UNREAD),
            operation(ROOT, "GET app_lcm_op_occs", self._occurrences, query=PARAMETERS),
            operation(ROOT, f"GET {done}", self._occurrence),
            *(operation(ROOT, f"POST {done}/{name}", self._intervene, body=Body.UNREAD) for name in ("cancel", "fail", "retry")),
            operation(ROOT, "GET subscriptions", self._subscriptions, query=frozenset(("subscriptiontype",))),
            operation(ROOT, "POST subscriptions", refuse_subscription, body=Body.UNREAD),
        )

    async def stop(self) -> None:
        """Stop waiting for guests that shut down."""
        await self._work.stop()

    def close(self) -> None:
        """Close the file of instances without a server, and of operations."""
        self._store.close()

    # Instances

    async def _create(self, question: Question) -> Reply:
        wanted = bodies.wanted(question.body)
        project = project_of(question, writes=True)
        application = await self._applications.get(question, wanted.app_d_id)
        if not application.enabled:
            raise Problem(403, "the package is disabled: no instances of it can be created")
        name, description = wanted.app_instance_name or "", wanted.app_instance_description or ""
        identifier = IdleInstance(str(uuid.uuid4()), project, application.id, name, description)
        self._store.add(identifier)
        url = self._url(identifier.id)
        reply = json_reply(201, {"AppInstanceInfo": bodies.without_server(identifier, application, url)}, self._site)
        reply.headers["Location"] = url
        return reply

    async def _list(self, question: Question) -> Reply:
        project = project_of(question)
        found, missing = await self._running(question)
        known, unseen = await self._applications.list(question)
        by_id = {application.id: application for application in known}
        shown = [self._instantiated(each, by_id.get(each.instance.app)) for each in found]
        running = {each.id for each in found}
        idle = [each for each in self._store.identifiers(project) if each.id not in running]
        shown += [bodies.without_server(each, by_id.get(each.app), self._url(each.id)) for each in idle]
        reply = json_reply(200, selected(shown, question.query, _REQUIRED), self._site)
        if missing or unseen:
            reply.headers[MISSING] = missing or unseen
        return reply

    async def _show(self, question: Question) -> Reply:
        found = await self._find(question)
        app = found.instance.app if isinstance(found, _Found) else found.app
        application = await self._application(question, app)
        if isinstance(found, _Found):
            shown = self._instantiated(found, application)
        else:
            shown = bodies.without_server(found, application, self._url(found.id))
        return json_reply(200, {"AppInstanceInfo": shown}, self._site)

    async def _delete(self, question: Question) -> Reply:
        async with self._turn(question):
            found = await self._find(question)
            if isinstance(found, _Found):
                raise Problem(403, "the instance is instantiated: terminate it first")
            project_of(question, writes=True)
            self._store.remove(found)
        return empty(204, self._site)

    # Operations

    async def _instantiate(self, question: Question) -> Reply:
        site = bodies.site_of(question.body, self._sites.everywhere())
        network_of(question)
        async with self._turn(question):
            found = await self._find(question)
            if isinstance(found, _Found):
                raise Problem(403, "the instance is instantiated already")
            application = await self._applications.get(question, found.app)
            more = {INSTANCE: found.id} | ({DESCRIPTION: found.description} if found.description else {})
            self._store.change(replace(found, site=site))
            try:
                server = await self._launcher.start(question, found.name or application.manifest.name, application, site, more)
            except Problem as refused:
                if not undecided(refused):
                    self._store.change(found)
                raise
            self._store.remove(found)
            parameters = {"selectedMECHostInfo": [{"hostName": site, "hostId": {"site": site}}]}
            return self._accepted(self._work.begin(question, found.id, server, OperationKind.INSTANTIATE, parameters))

    async def _operate(self, question: Question) -> Reply:
        start = bodies.starts(question.body)
        found = await self._instance(question)
        await self._work.change(question, found.instance.id, start=start)
        return self._accepted(self._work.begin(question, found.id, found.instance.id, OperationKind.START if start else OperationKind.STOP))

    async def _terminate(self, question: Question) -> Reply:
        termination = bodies.termination_of(question.body)
        async with self._turn(question):
            found = await self._instance(question)
            instance, description = found.instance, str(found.server["metadata"].get(DESCRIPTION, ""))
            left = IdleInstance(found.id, question.caller.project, instance.app, instance.server_name, description, instance.site)
            new = self._store.add(left, terminated=True)  # before the server goes: a crash in between loses no instance
            try:
                await self._work.terminate(question, instance.id, termination.wait_s, left)
            except Problem as refused:
                if new and not undecided(refused):
                    self._store.remove(left)
                raise
            return self._accepted(self._work.begin(question, found.id, instance.id, OperationKind.TERMINATE))

    async def _configure(self, question: Question) -> Reply:
        await self._find(question)
        raise Problem(501, "there are no rules of a MEC platform for traffic and DNS: configure the project's networks by Neutron")

    async def _occurrences(self, question: Question) -> Reply:
        seen = await self._work.seen_all(question, self._store.operations(project_of(question)))
        shown = [self._shown(each) for each in seen]
        return json_reply(200, selected(shown, question.query, frozenset(("stateEnteredTime", "startTime", "_links"))), self._site)

    async def _occurrence(self, question: Question) -> Reply:
        return json_reply(200, {"AppLcmOpOcc": self._shown(await self._work.seen(question, self._own(question)))}, self._site)

    async def _intervene(self, question: Question) -> Reply:
        found = await self._work.seen(question, self._own(question))
        ended = "can't be cancelled: terminate the instance" if found.state is State.PROCESSING else "has ended, and is not in FAILED_TEMP"
        raise Problem(403, f"the operation {ended}")

    async def _subscriptions(self, _question: Question) -> Reply:
        body = {"AppInstanceSubscriptionLinkList": {"_links": {"self": {"href": f"{self._base}subscriptions"}, "subscriptions": []}}}
        return json_reply(200, body, self._site)

    # Look-ups

    def _turn(self, question: Question) -> asyncio.Lock:
        """Return the lock of the instance that a path names: one request at a time creates or deletes its server, or deletes it."""
        return self._changing.setdefault((question.caller.project, question.names[0]), asyncio.Lock())

    async def _find(self, question: Question) -> _Found | IdleInstance:
        """Return the instance that a path names.

        Raises:
            Problem: the caller's project has no such instance.
            Unreachable: a site that the request needs does not answer.
        """
        wanted, project = question.names[0], project_of(question)
        identifier = self._store.identifier(wanted, project)
        try:
            if (held := await self._held(question, wanted)) is not None:
                return held
        except (Problem, Unreachable) as error:
            if identifier is None or identifier.site or not undecided(error):
                raise  # the site that does not answer may have the server
        if identifier is not None:
            return identifier
        raise Problem(404, f"{_MISSING}; {self._site} knows instances without a server that were created or terminated here alone")

    async def _held(self, question: Question, wanted: str) -> _Found | None:
        """Return the instance with an id if it has a server; `None` if no site has one.

        Raises:
            Problem: Nova refuses the request.
            Unreachable: a site does not answer.
        """
        server = await self._services.show(question, "compute", f"/v2.1/servers/{segment(wanted)}", "server")
        found = _found(server, question.caller.project) if server is not None else None
        if found is not None and found.id == wanted:
            return found
        running, missing = await self._running(question)
        if (held := next((each for each in running if each.id == wanted), None)) is None and missing:
            raise Unreachable(missing.partition(",")[0], f"it may have the instance, and does not answer ({missing})")
        return held

    async def _instance(self, question: Question) -> _Found:
        """Return the instance that a path names, if it has a server.

        Raises:
            Problem: the caller's project has no such instance, or it is not instantiated.
            Unreachable: a site that the request needs does not answer.
        """
        found = await self._find(question)
        if not isinstance(found, _Found):
            raise Problem(403, "the instance is not instantiated")
        return found

    async def _running(self, question: Question) -> tuple[list[_Found], str]:
        """Return the instances of the caller's project that have servers, and the sites that did not answer.

        Raises:
            Problem: Nova refuses the list.
            Unreachable: a site did not answer, and the operator has chosen `lists: strict`.
        """
        listed = await self._services.list(question, "compute", "/v2.1/servers/detail", "servers")
        found = (_found(server, question.caller.project) for server in sorted(listed.items, key=lambda each: str(each["id"])))
        return list({each.id: each for each in reversed([each for each in found if each is not None])}.values())[::-1], listed.missing

    async def _application(self, question: Question, app: str) -> Application | None:
        try:
            return await self._applications.get(question, app)
        except (Problem, Unreachable):
            return None

    def _own(self, question: Question) -> LifeOperation:
        """Return the operation that a path names.

        Raises:
            Problem: the caller's project has no such operation at this gateway.
        """
        found = self._store.operation(question.names[0], project_of(question))
        if found is None:
            raise Problem(404, f"there is no such operation at {self._site}: each site has its own")
        return found

    # Answers

    def _instantiated(self, found: _Found, application: Application | None) -> dict[str, Any]:
        return bodies.with_server(
            found.instance, found.id, str(found.server["metadata"].get(DESCRIPTION, "")), application, self._url(found.id)
        )

    def _shown(self, operation: LifeOperation) -> dict[str, Any]:
        return bodies.occurrence(operation, f"{self._base}app_lcm_op_occs/{segment(operation.id)}", self._url(operation.instance))

    def _accepted(self, operation: LifeOperation) -> Reply:
        reply = empty(202, self._site)
        reply.headers["Location"] = f"{self._base}app_lcm_op_occs/{segment(operation.id)}"
        return reply

    def _url(self, instance: str) -> str:
        return f"{self._base}app_instances/{segment(instance)}"


def _found(server: Mapping[str, Any], project: str) -> _Found | None:
    """Return the instance that a server represents; `None` if the server is no instance of the project, or is deleted."""
    instance = instance_of(server, project)
    if instance is None or server.get("status") in GONE:
        return None
    identifier = server["metadata"].get(INSTANCE)
    return _Found(identifier if isinstance(identifier, str) and ID.fullmatch(identifier) else instance.id, server, instance)
