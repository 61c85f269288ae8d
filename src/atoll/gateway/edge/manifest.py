"""The manifest of an application that is a virtual machine: parsed, checked, and kept in a property of the application's image.

Containers, Kubernetes and GPUs are refused as not implemented; a property that the standard does not know is refused as invalid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from atoll.gateway.edge.device import fields_of
from atoll.gateway.edge.flavors import Needs
from atoll.gateway.edge.problem import Problem, invalid

MOST_BYTES = 32 << 10
"""Greatest number of bytes of a manifest. One with 32 interfaces has about 6 KiB."""

MOST_INTERFACES = 32
"""Greatest number of interfaces: each one that clients reach takes one of a server's metadata, of which Nova allows 128."""

PACKAGE = "QCOW2"
"""The only type of package that is the disk of a virtual machine alone."""

_EXTERNAL = "VISIBILITY_EXTERNAL"

_KNOWN = ("name", "appProvider", "version", "packageType", "operatingSystem", "appRepo", "requiredResources", "componentSpec")
_OTHER_PACKAGES = ("OVA", "CONTAINER", "HELM", "CSAR")
_OTHER_KINDS = ("kubernetes", "container", "dockerCompose")
_RANGES = frozenset(("greater_than_equal", "less_than_equal"))

Short = Annotated[str, Field(max_length=64)]
"""A text of at most 64 characters."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


class OperatingSystem(_Strict):
    """The guest's operating system, which only describes the application."""

    architecture: Literal["x86_64", "x86"]
    family: Literal["RHEL", "UBUNTU", "COREOS", "WINDOWS", "OTHER"]
    version: Literal["OS_VERSION_UBUNTU_2204_LTS", "OS_VERSION_RHEL_8", "OS_MS_WINDOWS_2022", "OTHER"]
    license: Literal["OS_LICENSE_TYPE_FREE", "OS_LICENSE_TYPE_ON_DEMAND", "OTHER"]


class Repository(_Strict):
    """The place of the application's disk.

    Attributes:
        type: whether the place is open to everybody.
        image_path: the URI of the disk.
        auth_type: the kind of credentials; an image of this cloud needs none.
        checksum: the MD5 digest of the disk.
    """

    type: Literal["PRIVATEREPO", "PUBLICREPO"]
    image_path: Annotated[str, Field(max_length=2048)]
    auth_type: Literal["NONE"] | None = None
    checksum: Annotated[str, Field(max_length=128)] | None = None


class MachineResources(_Strict):
    """The resources that the application needs.

    Attributes:
        infra_kind: the kind of infrastructure.
        num_cpu: the number of virtual processors.
        memory: the memory in megabytes.
    """

    infra_kind: Literal["virtualMachine"]
    num_cpu: Annotated[int, Field(ge=1, le=256, alias="numCPU")]
    memory: Annotated[int, Field(ge=1, le=32768)]


class NetworkInterface(_Strict):
    """A port that the application exposes.

    Attributes:
        interface_id: the name of the interface, unique in the application.
        protocol: the transport protocol.
        port: the number of the port.
        visibility_type: whether clients reach the port, or other components of the application alone.
    """

    interface_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{2,30}[A-Za-z0-9]$")]
    protocol: Literal["TCP", "UDP", "ANY"]
    port: Annotated[int, Field(ge=1, le=65535)]
    visibility_type: Literal["VISIBILITY_EXTERNAL", "VISIBILITY_INTERNAL"]


class Component(_Strict):
    """A part of the application with its interfaces."""

    component_name: Short
    network_interfaces: Annotated[list[NetworkInterface], Field(min_length=1, max_length=100)]


class Manifest(_Strict):
    """An application, as its provider describes it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{1,63}$")]
    app_provider: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{7,63}$")]
    version: Short
    package_type: Literal["QCOW2"]
    operating_system: OperatingSystem | None = None
    app_repo: Repository
    required_resources: MachineResources
    component_spec: Annotated[list[Component], Field(max_length=100)]

    @property
    def interfaces(self) -> list[NetworkInterface]:
        """The interfaces of all components."""
        return [interface for component in self.component_spec for interface in component.network_interfaces]

    @property
    def ports(self) -> dict[str, int]:
        """The ports that clients reach, by the interface's id."""
        return {each.interface_id: each.port for each in self.interfaces if each.visibility_type == _EXTERNAL}

    @property
    def needs(self) -> Needs:
        """The resources that the application needs."""
        return Needs(self.required_resources.num_cpu, self.required_resources.memory)

    def data(self) -> dict[str, Any]:
        """Return the manifest in the standard's form."""
        return self.model_dump(by_alias=True, exclude_none=True)

    def text(self) -> str:
        """Return the manifest as text, for `stored`."""
        return orjson.dumps(self.data()).decode()


def parse(body: bytes) -> Manifest:
    """Return the manifest in the body of a request.

    Raises:
        Problem: the body is no manifest, or that of an application that is no virtual machine.
    """
    return described(fields_of(body, *_KNOWN))


def described(fields: Mapping[str, Any]) -> Manifest:
    """Return the manifest with the properties of a request.

    Raises:
        Problem: the properties form no manifest, or the application is not a virtual machine.
    """
    _check_kind(fields)
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        raise _problem(error) from None
    names = [interface.interface_id for interface in manifest.interfaces]
    if len(set(names)) < len(names):
        raise invalid("two interfaces have the same interfaceId: expected each once in the application")
    if len(names) > MOST_INTERFACES:
        raise Problem(400, f"the application has {len(names)} interfaces: expected at most {MOST_INTERFACES}", "OUT_OF_RANGE")
    return manifest


def stored(text: Any) -> Manifest | None:
    """Return the manifest in a property of an image; `None` if there is none, or somebody has damaged it."""
    if not isinstance(text, str) or not 0 < len(text) <= MOST_BYTES:
        return None
    try:
        return parse(text.encode())
    except (Problem, UnicodeEncodeError):
        return None


def _check_kind(fields: Mapping[str, Any]) -> None:
    """Check that a manifest describes a virtual machine without parts that no site has.

    Raises:
        Problem: it describes something else that the standard knows.
    """
    package, resources, repository = fields.get("packageType"), fields.get("requiredResources"), fields.get("appRepo")
    if package in _OTHER_PACKAGES:
        raise Problem(501, f"packages of the type {package} are not supported: expected {PACKAGE}, a virtual machine's disk")
    if isinstance(resources, dict):
        if (kind := resources.get("infraKind")) in _OTHER_KINDS:
            raise Problem(501, f"infrastructure of the kind {kind} is not supported: expected virtualMachine")
        for name in ("gpu", "additionalStorages"):
            if resources.get(name):
                raise Problem(501, f"{name} is not supported: leave it out")
    if isinstance(repository, dict) and (used := sorted({"userName", "credentials"} & repository.keys())):
        raise invalid(f"{used[0]} is not needed, and is not stored: leave it out")


def _problem(error: ValidationError) -> Problem:
    """Return the error for the first property that does not match the schema; the value is not repeated."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    return Problem(400, f"{where} is not as the standard says: {first['msg']}", "OUT_OF_RANGE" if first["type"] in _RANGES else "")
