"""Parses the body of a discovery request, above all the device that it may name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import orjson

from atoll.gateway.edge.problem import Problem, invalid

MOST_BYTES = 8192
"""Greatest number of bytes of a body. The longest sensible body, with all four identifiers, has about 400."""

LOWEST_PORT, HIGHEST_PORT = 1024, 65535
"""The ports that the standard accepts."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PHONE = re.compile(r"\+[1-9][0-9]{4,14}")


@dataclass(frozen=True)
class Identifier:
    """One identifier of a device.

    Attributes:
        name: the standard's name, such as `ipv4Address`.
        value: the value, as the client sent it.
        addresses: the IP addresses in it, the public one first; none for identifiers that Atoll can't look up.
    """

    name: str
    value: Any
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()


def fields_of(body: bytes, *known: str) -> Mapping[str, Any]:
    """Return the properties of a body; none for an empty body.

    Args:
        body: the body.
        known: the properties that the standard knows.

    Raises:
        Problem: the body is no JSON object, or has a property that the standard does not know.
    """
    if not body:
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise invalid("the body is not JSON: expected an object, such as {}") from None
    return _object(value, "the body", known)


def uuid_of(fields: Mapping[str, Any], name: str) -> str:
    """Return the UUID in a property, in lower case; empty if the property is absent.

    Raises:
        Problem: the property is no UUID.
    """
    value = fields.get(name, "")
    if name in fields and not (isinstance(value, str) and _UUID.fullmatch(value.lower())):
        raise invalid(f"{name} is no UUID")
    return str(value).lower()


def parse(body: bytes) -> tuple[Identifier, ...]:
    """Return the identifiers of the device that a body with no other property names; an empty tuple if it names none.

    Raises:
        Problem: the body does not match the standard's schema, or has a property that the standard does not know.
    """
    if not body:
        raise invalid("the body is empty: expected an object, such as {}")
    return device_of(fields_of(body, "device"))


def device_of(fields: Mapping[str, Any]) -> tuple[Identifier, ...]:
    """Return the identifiers of the device that a body names in its property `device`; an empty tuple if it names none.

    Raises:
        Problem: the device does not match the standard's schema, or has a property that the standard does not know.
    """
    if "device" not in fields:
        return ()
    device = _object(fields["device"], "device", tuple(_PARSERS))
    if not device:
        raise invalid(f"device is empty: expected at least one of {', '.join(_PARSERS)}")
    return tuple(Identifier(name, device[name], parser(device[name])) for name, parser in _PARSERS.items() if name in device)


def _object(value: Any, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{where} is no object: expected an object with {', '.join(known)}")
    if unknown := sorted(value.keys() - set(known)):
        raise invalid(f"{where} has the unknown property {unknown[0]!r:.60}: expected {', '.join(known)}")
    return value


def _ipv4(value: Any) -> tuple[IPv4Address | IPv6Address, ...]:
    fields = _object(value, "ipv4Address", ("publicAddress", "privateAddress", "publicPort"))
    if "publicAddress" not in fields or len(fields) == 1:
        raise invalid("ipv4Address is incomplete: expected publicAddress, and privateAddress or publicPort")
    if "publicPort" in fields:
        _check_port(fields["publicPort"])
    names = ("publicAddress", "privateAddress")
    return tuple(_address(IPv4Address, fields[name], name) for name in names if name in fields)


def _check_port(port: Any) -> None:
    if type(port) is not int:
        raise invalid("publicPort is no integer")
    if not LOWEST_PORT <= port <= HIGHEST_PORT:
        raise Problem(400, f"publicPort is out of range: expected {LOWEST_PORT} to {HIGHEST_PORT}", "OUT_OF_RANGE")


def _ipv6(value: Any) -> tuple[IPv4Address | IPv6Address, ...]:
    return (_address(IPv6Address, value, "ipv6Address"),)


def _address(kind: type[IPv4Address | IPv6Address], value: Any, name: str) -> IPv4Address | IPv6Address:
    # A zone (`%eth0`) has a meaning on the device alone.
    if isinstance(value, str) and "%" not in value:
        try:
            return kind(value)
        except ValueError:
            pass
    raise invalid(f"{name} is not an IPv{4 if kind is IPv4Address else 6} address")


def _phone(value: Any) -> tuple[()]:
    if not isinstance(value, str) or not _PHONE.fullmatch(value):
        raise invalid("phoneNumber is no number in international format, such as +123456789")
    return ()


def _network_access(value: Any) -> tuple[()]:
    if not isinstance(value, str):
        raise invalid("networkAccessIdentifier is no string")
    return ()


_PARSERS: dict[str, Callable[[Any], tuple[IPv4Address | IPv6Address, ...]]] = {
    "ipv4Address": _ipv4,
    "ipv6Address": _ipv6,
    "phoneNumber": _phone,
    "networkAccessIdentifier": _network_access,
}
"""The parsers of identifiers. Of several identifiers, the first one that can be looked up is used."""
