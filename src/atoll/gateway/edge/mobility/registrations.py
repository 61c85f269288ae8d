"""Registrations of application instances for mobility, kept in the metadata of their servers.

So Nova's rights for the server apply to its registration. Every site can read the registration, and it moves and ends with the server. The
owner of a server writes its metadata, and a registration affects only hand-offs of this server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, TypeAdapter

from atoll.gateway.edge.applications import ID
from atoll.gateway.edge.etsi import Strict, parsed, validated
from atoll.gateway.edge.problem import Problem, invalid

REGISTERED = "atoll_mobility"
"""Key in a server's metadata: the time for which the instance is registered, and the time of the end, as JSON."""

DEVICE = "atoll_mobility_device_"
"""Prefix of keys in a server's metadata, followed by a number. The value is a device that the instance serves."""

MOST_DEVICES = 16
"""Greatest number of devices of a registration; each needs one item of the server's metadata."""

MOST_BYTES = 16 << 10
"""Greatest number of bytes of a body."""

NOT_ALLOWED, WITH_CONFIRMATION, WITHOUT_CONFIRMATION = 1, 2, 3
"""The levels of mobility."""

TRANSFERRED = 1
"""The value of `context_transfer_state` by which the application confirms a hand-off."""


class Level(Strict):
    """The application's consent to being moved while it serves a device."""

    app_mobility_service_level: Literal[1, 2, 3]


class Device(Strict):
    """A device that an instance serves.

    Attributes:
        associate_id: the identifier of the device, chosen by the application.
        app_mobility_service_level: the application's consent; absent if it keeps no state for the device.
        context_transfer_state: 1 once the application has transferred the device's context.
    """

    associate_id: Annotated[str, Field(pattern=r"^[ -~]{1,100}$")]
    app_mobility_service_level: Level | None = None
    context_transfer_state: Literal[0, 1] = 0


class _Consumer(Strict):
    app_instance_id: str | None = None
    mep_id: str | None = None


class _Wanted(Strict):
    app_mobility_service_id: str | None = None
    service_consumer_id: _Consumer
    device_information: Annotated[list[Device], Field(default_factory=list, max_length=MOST_DEVICES)]
    expiry_time: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


class _Time(Strict):
    expiry: int
    until: float


class Consent(Enum):
    """The application's consent to a hand-off of its instance, by the registration.

    Attributes:
        GIVEN: the server may be handed off.
        AWAITED: the application must confirm first, by `context_transfer_state` of its devices.
        REFUSED: the application forbids hand-offs.
    """

    GIVEN = "given"
    AWAITED = "awaited"
    REFUSED = "refused"


@dataclass(frozen=True)
class Registration:
    """The registration of an application instance.

    Attributes:
        instance: the id of the instance, which is the registration's too.
        devices: the devices that the instance serves.
        expiry_s: the seconds for which it was registered; 0 means no limit.
        until_s: the Unix time of its end; 0 means that it does not end.
    """

    instance: str
    devices: tuple[Device, ...]
    expiry_s: int = 0
    until_s: float = 0.0

    def data(self) -> dict[str, Any]:
        """Return the registration in the standard's form."""
        devices = [device.model_dump(by_alias=True, exclude_none=True) for device in self.devices]
        return {
            "appMobilityServiceId": self.instance,
            "serviceConsumerId": {"appInstanceId": self.instance},
            "deviceInformation": devices,
            "expiryTime": self.expiry_s,
        }

    def metadata(self) -> dict[str, str]:
        """Return the registration as metadata of the server."""
        devices = {f"{DEVICE}{number}": _text(device) for number, device in enumerate(self.devices)}
        return {REGISTERED: orjson.dumps({"expiry": self.expiry_s, "until": self.until_s}).decode(), **devices}


def wanted(body: bytes, now_s: float, instance: str = "") -> Registration:
    """Return the registration in the body of a request.

    Args:
        body: the body.
        now_s: the present Unix time.
        instance: the instance that the path names; empty for a new registration.

    Raises:
        Problem: the body does not conform to the standard, or does not register an instance.
    """
    found: _Wanted = parsed(body, "RegistrationInfo", TypeAdapter(_Wanted))
    consumer = found.service_consumer_id
    if consumer.mep_id is not None:
        raise Problem(
            422, "MEC platforms are not registered: expected serviceConsumerId with appInstanceId alone", "UNSUPPORTED_IDENTIFIER"
        )
    named = consumer.app_instance_id or ""
    if not ID.fullmatch(named) or (instance and named != instance):
        raise invalid("serviceConsumerId.appInstanceId is not the id of the instance")
    if found.app_mobility_service_id not in {None, instance or None}:
        raise invalid("appMobilityServiceId is assigned by the cloud: leave it out")
    names = [device.associate_id for device in found.device_information]
    if len(set(names)) < len(names):
        raise invalid("deviceInformation names a device twice")
    until_s = now_s + found.expiry_time if found.expiry_time else 0.0
    return Registration(named, tuple(found.device_information), found.expiry_time, until_s)


def registration_of(instance: str, metadata: Mapping[str, Any], now_s: float) -> Registration | None:
    """Return the registration in a server's metadata; `None` if the metadata has no registration, or an expired or malformed one.

    Args:
        instance: the id of the server.
        metadata: the server's metadata.
        now_s: the present Unix time.
    """
    try:
        time: _Time = validated(_loaded(metadata.get(REGISTERED)), REGISTERED, TypeAdapter(_Time))
        devices = tuple(_device(metadata[key]) for key in device_keys(metadata))
    except Problem:
        return None
    if time.until and time.until <= now_s:
        return None
    return Registration(instance, devices[:MOST_DEVICES], time.expiry, time.until)


def device_keys(metadata: Mapping[str, Any]) -> list[str]:
    """Return the keys of a server's metadata that hold devices, in their order."""
    numbered = (key for key in metadata if key.startswith(DEVICE) and key.removeprefix(DEVICE).isdecimal())
    return sorted(numbered, key=lambda key: (len(key), key))


def consent(metadata: Mapping[str, Any], now_s: float) -> Consent:
    """Return whether the registration in a server's metadata allows a hand-off of the server.

    Args:
        metadata: the server's metadata.
        now_s: the present Unix time.
    """
    registration = registration_of("", metadata, now_s)
    devices = registration.devices if registration is not None else ()
    levels = [(each.app_mobility_service_level.app_mobility_service_level, each) for each in devices if each.app_mobility_service_level]
    if any(level == NOT_ALLOWED for level, _device in levels):
        return Consent.REFUSED
    if any(level == WITH_CONFIRMATION and each.context_transfer_state != TRANSFERRED for level, each in levels):
        return Consent.AWAITED
    return Consent.GIVEN


def after_move(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata for a server after a hand-off, without the application's confirmation, which is valid for one hand-off."""
    kept = dict(metadata)
    for key in device_keys(metadata):
        try:
            device = _device(metadata[key])
        except Problem:
            continue
        kept[key] = _text(device.model_copy(update={"context_transfer_state": 0}))
    return kept


def _text(device: Device) -> str:
    """Return a device as text of at most 255 characters, which Nova allows."""
    level = device.app_mobility_service_level
    return orjson.dumps([device.associate_id, level.app_mobility_service_level if level else 0, device.context_transfer_state]).decode()


def _device(text: Any) -> Device:
    """Return the device in a value of metadata.

    Raises:
        Problem: the value is malformed, because a user has changed it.
    """
    fields = _loaded(text)
    if not isinstance(fields, list) or len(fields) != 3:
        raise invalid("the metadata hold no device")
    identifier, level, state = fields
    values = {"associateId": identifier, "contextTransferState": state}
    if level != 0:
        values["appMobilityServiceLevel"] = {"appMobilityServiceLevel": level}
    found: Device = validated(values, DEVICE, TypeAdapter(Device))
    return found


def _loaded(text: Any) -> Any:
    """Return the data in a JSON value of metadata; `None` if there is no value.

    Raises:
        Problem: the value is not JSON.
    """
    try:
        return orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        raise invalid("the metadata are no JSON") from None
