"""The bodies of ETSI MEC 016, the device application interface: parsed from requests, and made for answers.

The standard describes a place by country, civic address or area. Atoll knows the names of sites: a site is the civic address element of
type 23 (RFC 4776: the name of a place).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from atoll.gateway.edge.applications import Application
from atoll.gateway.edge.etsi import Strict, parsed
from atoll.gateway.edge.problem import Problem, invalid

MOST_BYTES = 16 << 10
"""Greatest number of bytes of a body."""

NAME_OF_PLACE = 23
"""The type of a civic address element that names a place."""

Short = Annotated[str, Field(max_length=32)]
"""A text of at most 32 characters, as the standard says."""


class CivicAddressElement(Strict):
    """A part of an address."""

    ca_type: int
    ca_value: str


class LocationConstraints(Strict):
    """A place, described by a civic address."""

    civic_address_element: list[CivicAddressElement]


class WantedPlace(Strict):
    """An instance that a request wants, or a place that it is asked about."""

    app_location: LocationConstraints | None = None


class WantedApplication(Strict):
    """The application that a request names.

    Attributes:
        app_d_id: the id of the application.
        app_name: its name.
        app_provider: the name of its provider.
        app_soft_version: the version of its software.
        app_d_version: the version of its description; the same.
        app_description: a text for people.
        app_package_source: the URI of a package.
        user_app_instance_info: the wanted instance.
        available_locations: places; empty in requests.
    """

    app_d_id: str | None = Field(default=None, alias="appDId")
    app_name: str
    app_provider: str
    app_soft_version: str | None = None
    app_d_version: str = Field(alias="appDVersion")
    app_description: str | None = None
    app_package_source: str | None = None
    user_app_instance_info: list[WantedPlace] = Field(default_factory=list)
    available_locations: list[WantedPlace] = Field(default_factory=list)


class WantedContext(Strict):
    """An application context, as a device asks for it.

    Attributes:
        context_id: the id of the context; absent in the request for a new one.
        associate_dev_app_id: the name of the program on the device.
        callback_reference: where the device receives notifications.
        app_location_updates: whether the device wants notifications about places.
        app_auto_instantiation: whether an instance is started once a place becomes available.
        app_info: the application.
    """

    context_id: str | None = None
    associate_dev_app_id: Short
    callback_reference: str | None = None
    app_location_updates: bool = False
    app_auto_instantiation: bool = False
    app_info: WantedApplication


class WantedLocations(Strict):
    """A request for the places at which an application can be started."""

    associate_dev_app_id: Short
    app_info: WantedApplication


def context_of(body: bytes) -> WantedContext:
    """Return the context in the body of a request.

    Raises:
        Problem: the body is not as the standard says, asks for notifications, or names several instances.
    """
    context = TypeAdapter(WantedContext)
    found: WantedContext = parsed(body, "AppContext", context)
    if found.callback_reference is not None or found.app_location_updates:
        raise invalid("no notifications are sent: leave out callbackReference and appLocationUpdates")
    if "user_app_instance_info" not in found.app_info.model_fields_set:
        raise invalid("AppContext.appInfo has no userAppInstanceInfo: expected a list, which may be empty")
    if len(found.app_info.user_app_instance_info) > 1:
        raise invalid("AppContext.appInfo.userAppInstanceInfo has several instances: expected at most one")
    return found


def locations_of(body: bytes) -> WantedLocations:
    """Return the question for places in the body of a request.

    Raises:
        Problem: the body is not as the standard says.
    """
    found: WantedLocations = parsed(body, "ApplicationLocationAvailability", TypeAdapter(WantedLocations))
    return found


def site_of(places: Iterable[WantedPlace], sites: Iterable[str]) -> str:
    """Return the site that a request names; empty if it names none.

    Raises:
        Problem: it names several places, or one that is no site.
    """
    named = [place.app_location for place in places if place.app_location is not None]
    if not named:
        return ""
    elements = named[0].civic_address_element
    if len(named) > 1 or [element.ca_type for element in elements] != [NAME_OF_PLACE]:
        raise invalid(f"appLocation is understood as one civic address element with caType {NAME_OF_PLACE} and the name of a site")
    if elements[0].ca_value not in sites:
        raise Problem(404, "there is no site with the name in appLocation")
    return elements[0].ca_value


def place(site: str) -> dict[str, Any]:
    """Return the place of a site in the standard's form."""
    return {"civicAddressElement": [{"caType": NAME_OF_PLACE, "caValue": site}]}


def described(application: Application) -> dict[str, Any]:
    """Return an application for the list of available ones."""
    manifest, image = application.manifest, application.image
    characteristics: dict[str, int] = {"memory": application.needs.memory_mb, "serviceCont": 0}
    if application.needs.disk_gb:
        characteristics["storage"] = application.needs.disk_gb * 1024
    return {
        "appDId": application.id,
        "appName": manifest.name,
        "appProvider": manifest.app_provider,
        "appSoftVersion": manifest.version,
        "appDVersion": manifest.version,
        "appDescription": str(image.get("description") or image.get("name") or manifest.name)[:128],
        "appCharcs": characteristics,
    }


def named(application: Application) -> dict[str, Any]:
    """Return the names of an application, for an answer about a context or places."""
    shown = described(application)
    return {name: shown[name] for name in ("appName", "appProvider", "appSoftVersion", "appDVersion", "appDescription")}


def matches(application: Application, wanted: WantedApplication) -> bool:
    """Return whether an application has the name, the provider and the version that a request names."""
    manifest = application.manifest
    versions = {wanted.app_d_version, wanted.app_soft_version or wanted.app_d_version}
    return (manifest.name, manifest.app_provider) == (wanted.app_name, wanted.app_provider) and versions == {manifest.version}
