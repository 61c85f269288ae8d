"""Applications: images of Glance that have a manifest.

The manifest is a property of the image that holds the application's disk or overlay, and the application's id is the image's. So Glance
decides who may see, change or delete an application, and the manifest has copies where the image has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.gateway.edge import manifest as manifests
from atoll.gateway.edge.flavors import Needs
from atoll.gateway.edge.front import Question
from atoll.gateway.edge.manifest import Manifest
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.request.paths import segment

MANIFEST = "atoll_app_manifest"
"""Property of an image: the manifest of the application, as JSON."""

PACKAGE = "atoll_app_package"
"""Property of an image that has a manifest: the type of the package, by which applications are listed."""

DISABLED = "atoll_app_disabled"
"""Property of an image: `true` if no instances of the application may be started."""

URN = "urn:uuid:"
"""First part of the URI of an image of this cloud."""

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""The ids that the standard allows."""


@dataclass(frozen=True)
class Application:
    """An application that the caller may see.

    Attributes:
        id: the id of the application and of its image.
        manifest: its manifest.
        image: the image, as Glance shows it.
    """

    id: str
    manifest: Manifest
    image: Mapping[str, Any]

    def data(self) -> dict[str, Any]:
        """Return the manifest with the application's id, in the standard's form."""
        return {"appId": self.id, **self.manifest.data()}

    @property
    def enabled(self) -> bool:
        """Whether instances may be started."""
        return self.image.get(DISABLED) != "true"

    @property
    def needs(self) -> Needs:
        """The resources that an instance needs: those of the manifest, and no less than the image's."""
        return self.manifest.needs.and_image(self.image)


def application_of(image: Mapping[str, Any]) -> Application | None:
    """Return the application that an image is; `None` if it is none."""
    identifier, manifest = image.get("id"), manifests.stored(image.get(MANIFEST))
    return Application(identifier, manifest, image) if manifest is not None and isinstance(identifier, str) else None


class Applications:
    """The applications of the cloud, as callers see them.

    Args:
        services: the services of the cloud.
    """

    def __init__(self, services: UserServices) -> None:
        self._services = services

    async def get(self, question: Question, identifier: str) -> Application:
        """Return an application that the caller sees.

        Raises:
            Problem: the caller sees no such application.
            Unreachable: a site that the request needs does not answer.
        """
        image = await self._services.show(question, "image", f"/v2/images/{segment(identifier)}")
        if image is None or (found := application_of(image)) is None:
            raise Problem(404, "there is no such application")
        return found

    async def list(self, question: Question) -> tuple[list[Application], str]:
        """Return the applications that the caller sees, and the sites that did not answer, joined by commas.

        Raises:
            Problem: Glance refuses the list.
            Unreachable: a site that the request needs does not answer.
        """
        listed = await self._services.list(question, "image", "/v2/images", "images", {PACKAGE: manifests.PACKAGE})
        return [found for image in listed.items if (found := application_of(image)) is not None], listed.missing

    async def submit(
        self, question: Question, manifest: Manifest, check: Callable[[Mapping[str, Any]], None] = lambda _image: None
    ) -> Application:
        """Make an image an application.

        Args:
            question: the request of the caller.
            manifest: the manifest.
            check: a further check of the image, which may raise `Problem`.

        Raises:
            Problem: the caller may not, the image is not as the manifest says, or it is an application already.
            Unreachable: a site that the request needs does not answer.
        """
        path = manifest.app_repo.image_path
        identifier = path.removeprefix(URN)
        if not path.startswith(URN):
            raise Problem(501, f"disks from elsewhere are not fetched: upload an image, and name it {URN}ID")
        if not ID.fullmatch(identifier):
            raise invalid(f"imagePath is no id of an image that can be an application's: expected {URN} and a UUID of version 1 to 5")
        target = f"/v2/images/{segment(identifier)}"
        image = await self._services.show(question, "image", target)
        if image is None:
            raise Problem(404, "there is no such image")
        _check(image, manifest)
        check(image)
        changes = [_added(MANIFEST, manifest.text()), _added(PACKAGE, manifest.package_type)]
        self._services.expect(await self._services.send(question, "PATCH", "image", target, changes))
        return Application(identifier, manifest, image)

    async def enable(self, question: Question, application: Application, *, enabled: bool) -> None:
        """Allow or forbid the start of further instances of an application.

        Raises:
            Problem: Glance does not let the caller change the image.
            Unreachable: a site that the request needs does not answer.
        """
        target = f"/v2/images/{segment(application.id)}"
        present = DISABLED in application.image
        changes = [{"op": "remove", "path": f"/{DISABLED}"}] if enabled and present else [] if enabled else [_added(DISABLED, "true")]
        if changes:
            self._services.expect(await self._services.send(question, "PATCH", "image", target, changes))

    async def withdraw(self, question: Question, application: Application) -> None:
        """Make an application an ordinary image again.

        Raises:
            Problem: the caller may not.
            Unreachable: a site that the request needs does not answer.
        """
        changes = [{"op": "remove", "path": f"/{name}"} for name in (MANIFEST, PACKAGE, DISABLED) if name in application.image]
        self._services.expect(await self._services.send(question, "PATCH", "image", f"/v2/images/{segment(application.id)}", changes))


def _check(image: Mapping[str, Any], manifest: Manifest) -> None:
    """Check that an image can be the application of a manifest.

    Raises:
        Problem: it can't.
    """
    if image.get(MANIFEST):
        raise Problem(409, "the image is an application already: delete that application first", "ALREADY_EXISTS")
    if image.get("status") != "active":
        raise invalid("the image has no data yet: upload them first")
    checksum = manifest.app_repo.checksum
    if checksum is not None and checksum.lower() != str(image.get("checksum") or "").lower():
        raise invalid("the checksum is not the MD5 digest of the image's data")


def _added(name: str, value: str) -> dict[str, str]:
    return {"op": "add", "path": f"/{name}", "value": value}
