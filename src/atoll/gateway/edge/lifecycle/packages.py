"""ETSI MEC 010-2, package management, below `/app_pkgm/v1/`: a package is an application, which is an image with a manifest."""

from __future__ import annotations

import re
from typing import Any

from multidict import CIMultiDict

from atoll.gateway.edge.applications import ID, Application, Applications
from atoll.gateway.edge.attribute_filter import PARAMETERS, selected
from atoll.gateway.edge.front import Body, EdgeOperation, Question
from atoll.gateway.edge.instances import any_of, instances
from atoll.gateway.edge.lifecycle import package_bodies as bodies
from atoll.gateway.edge.lifecycle.package_bodies import MOST_BYTES
from atoll.gateway.edge.problem import Problem
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply, json_reply
from atoll.gateway.request.headers import MISSING
from atoll.gateway.request.paths import segment

ROOT = "/app_pkgm/v1/"
"""First segments of the API's paths."""

_PACKAGES = "onboarded_app_packages"
_REQUIRED = frozenset(("checksum", "softwareImages", "mecInfo", "_links"))


class PackageManagement:
    """The API of one site's gateway.

    Args:
        options: the gateway's settings.
        services: the services of the cloud.
    """

    def __init__(self, options: Options, services: UserServices) -> None:
        self._site = options.site
        self._base = f"http://{options.host}:{options.public_port}{ROOT}"
        self._services = services
        self._applications = Applications(services)
        one = f"{_PACKAGES}/({ID.pattern})"
        self.operations = (
            operation(ROOT, f"POST {_PACKAGES}", self._create, body=Body.REQUIRED),
            operation(ROOT, f"GET {_PACKAGES}", self._list, query=PARAMETERS),
            operation(ROOT, f"GET {one}", self._show),
            operation(ROOT, f"PATCH {one}", self._change, body=Body.REQUIRED),
            operation(ROOT, f"DELETE {one}", self._delete),
            operation(ROOT, f"GET {one}/appd", self._descriptor, query=PARAMETERS),
            operation(ROOT, f"GET {one}/package_content", self._content),
            operation(ROOT, f"PUT {one}/package_content", self._upload, body=Body.UNREAD),
            operation(ROOT, "GET subscriptions", self._subscriptions),
            operation(ROOT, "POST subscriptions", refuse_subscription, body=Body.UNREAD),
        )

    async def _create(self, question: Question) -> Reply:
        manifest, wanted = bodies.wanted(question.body)
        application = await self._applications.submit(question, manifest, lambda image: bodies.check_digest(image, wanted))
        reply = json_reply(201, {"AppPkgInfo": self._info(application, used=False)}, self._site)
        reply.headers["Location"] = self._url(application)
        return reply

    async def _list(self, question: Question) -> Reply:
        found, missing = await self._applications.list(question)
        every, unseen = await instances(self._services, question)
        used = {instance.app for instance in every}
        shown = [self._info(application, used=application.id in used) for application in found]
        reply = json_reply(200, selected(shown, question.query, _REQUIRED), self._site)
        if missing or unseen:
            reply.headers[MISSING] = missing or unseen
        return reply

    async def _show(self, question: Question) -> Reply:
        application = await self._application(question)
        used, missing = await self._used(question, application)
        reply = json_reply(200, {"AppPkgInfo": self._info(application, used=used)}, self._site)
        if missing:
            reply.headers[MISSING] = missing
        return reply

    async def _change(self, question: Question) -> Reply:
        enabled = bodies.state_of(question.body)
        await self._applications.enable(question, await self._application(question), enabled=enabled)
        body = {"AppPkgInfoModifications": {"operationalState": bodies.operational_state(enabled=enabled)}}
        return json_reply(200, body, self._site)

    async def _delete(self, question: Question) -> Reply:
        application = await self._application(question)
        if await any_of(self._services, question, application.id):
            raise Problem(403, "the package has instances with a server: terminate them first")
        await self._applications.withdraw(question, application)
        return empty(204, self._site)

    async def _descriptor(self, question: Question) -> Reply:
        (shown,) = selected(
            [bodies.descriptor(await self._application(question))], _choice(question), frozenset(("swImageDescriptor", "appExtCpd"))
        )
        return json_reply(200, {"AppD": shown}, self._site)

    async def _content(self, question: Question) -> Reply:
        await self._application(question)
        raise Problem(501, "there is no archive of a package: download the image of the same id from Glance")

    async def _upload(self, question: Question) -> Reply:
        await self._application(question)
        raise Problem(501, "archives of packages are not read: upload an image to Glance, and name it in appPkgPath")

    async def _subscriptions(self, _question: Question) -> Reply:
        body = {"AppPkgSubscriptionLinkList": {"_links": {"self": {"href": f"{self._base}subscriptions"}, "subscriptions": []}}}
        return json_reply(200, body, self._site)

    async def _application(self, question: Question) -> Application:
        """Return the application that a path names.

        Raises:
            Problem: there is no such application, or the caller may not see it.
            Unreachable: a site that the request needs does not answer.
        """
        return await self._applications.get(question, question.names[0])

    async def _used(self, question: Question, application: Application) -> tuple[bool, str]:
        """Return whether the caller's project has an instance of an application, and the sites that did not answer.

        Raises:
            Problem: Nova refuses the list.
            Unreachable: a site did not answer, and the operator has chosen `lists: strict`.
        """
        found, missing = await instances(self._services, question)
        return any(instance.app == application.id for instance in found), missing

    def _info(self, application: Application, *, used: bool) -> dict[str, Any]:
        return bodies.package_info(application, self._url(application), used=used)

    def _url(self, application: Application) -> str:
        return f"{self._base}{_PACKAGES}/{segment(application.id)}"


async def refuse_subscription(_question: Question) -> Reply:
    """Refuse a subscription of ETSI MEC 010-2.

    Raises:
        Problem: always.
    """
    raise Problem(501, "no notifications are sent to addresses that clients name: query the packages, the instances or the operations")


def operation(root: str, target: str, answer: Any, *, body: Body = Body.NONE, query: frozenset[str] = frozenset()) -> EdgeOperation:
    """Return an operation of one of the two APIs.

    Args:
        root: the first segments of the API's paths.
        target: the HTTP method, a space, and the pattern of the rest of the path.
        answer: see `EdgeOperation`.
        body: whether a request has a body.
        query: the parameters of the query.
    """
    method, _space, pattern = target.partition(" ")
    show = f"{method} {root}{pattern.replace(f'({ID.pattern})', 'ID')}"
    return EdgeOperation(method, re.compile(f"{root}{pattern}"), answer, show, body, MOST_BYTES, query)


def empty(status: int, site: str) -> Reply:
    """Return an answer without a body, from a site."""
    return Reply(status, CIMultiDict(), b"", site)


def _choice(question: Question) -> dict[str, str]:
    """Return the parameters of a query that select attributes, without `filter`, because a package has a single descriptor."""
    return {name: value for name, value in question.query.items() if name != "filter"}
