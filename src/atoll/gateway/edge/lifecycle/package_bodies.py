"""The bodies of requests and answers of ETSI MEC 010-2, package management."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from atoll.gateway.edge.applications import Application
from atoll.gateway.edge.etsi import Strict, parsed
from atoll.gateway.edge.manifest import PACKAGE, Manifest, described
from atoll.gateway.edge.problem import invalid

MOST_BYTES = 32 << 10
"""Greatest number of bytes of a body."""

MEC_VERSION = "3.1.1"
"""The version of the standard that the descriptors of applications name."""

_MD5, _SHA512 = "md5", "sha512"


class _Checksum(Strict):
    algorithm: Annotated[str, Field(max_length=16)]
    hash: Annotated[str, Field(max_length=128)]


class _UserData(Strict):
    required_resources: dict[str, Any] | None = None
    component_spec: list[Any] | None = None
    operating_system: dict[str, Any] | None = None


class WantedPackage(Strict):
    """A package that is to be on-boarded.

    Attributes:
        app_pkg_name: the name of the application.
        app_pkg_version: its version.
        app_provider: the name of its provider.
        checksum: the digest of the image's data.
        user_defined_data: the resources and the interfaces of the application, in CAMARA's form.
        app_pkg_path: the URI of the image.
    """

    app_pkg_name: str
    app_pkg_version: str
    app_provider: str | None = None
    checksum: _Checksum
    user_defined_data: _UserData | None = None
    app_pkg_path: Annotated[str, Field(max_length=2048)]


class _Modifications(Strict):
    operational_state: Literal["ENABLED", "DISABLED"]


def wanted(body: bytes) -> tuple[Manifest, WantedPackage]:
    """Return the manifest that a request describes, and the request.

    Raises:
        Problem: the body does not conform to the standard, or does not describe a virtual machine.
    """
    found: WantedPackage = parsed(body, "CreateAppPkg", TypeAdapter(WantedPackage))
    if found.app_provider is None:
        raise invalid("CreateAppPkg has no appProvider: expected the name of the application's provider")
    more = found.user_defined_data or _UserData()
    fields: dict[str, Any] = {
        "name": found.app_pkg_name,
        "appProvider": found.app_provider,
        "version": found.app_pkg_version,
        "packageType": PACKAGE,
        "appRepo": {"type": "PRIVATEREPO", "imagePath": found.app_pkg_path},
        "requiredResources": {"infraKind": "virtualMachine", "numCPU": 1, "memory": 1} | (more.required_resources or {}),
        "componentSpec": more.component_spec or [],
    }
    if more.operating_system is not None:
        fields["operatingSystem"] = more.operating_system
    return described(fields), found


def check_digest(image: Mapping[str, Any], package: WantedPackage) -> None:
    """Check that the digest in a request is that of the image's data.

    Raises:
        Problem: the digests differ, or Glance does not compute digests of this algorithm.
    """
    algorithm = package.checksum.algorithm.lower().replace("-", "")
    known = {_MD5: image.get("checksum"), str(image.get("os_hash_algo", _SHA512)).lower(): image.get("os_hash_value")}
    if algorithm not in known:
        raise invalid(f"checksum.algorithm is unknown: expected {' or '.join(sorted(known))}")
    if package.checksum.hash.lower() != str(known[algorithm] or "").lower():
        raise invalid("checksum.hash is not the digest of the image's data")


def state_of(body: bytes) -> bool:
    """Return whether a request enables a package; False if it disables it.

    Raises:
        Problem: the body does not conform to the standard.
    """
    found: _Modifications = parsed(body, "AppPkgInfoModifications", TypeAdapter(_Modifications))
    return found.operational_state == "ENABLED"


def operational_state(*, enabled: bool) -> str:
    """Return the operational state of a package in the standard's form."""
    return "ENABLED" if enabled else "DISABLED"


def package_info(application: Application, base: str, *, used: bool) -> dict[str, Any]:
    """Return a package in the standard's form.

    Args:
        application: the application.
        base: the URL of the package.
        used: whether the project has an instance of it.
    """
    manifest, image = application.manifest, application.image
    shown = manifest.data()
    return {
        "id": application.id,
        "appDId": application.id,
        "appProvider": manifest.app_provider,
        "appName": manifest.name,
        "appSoftwareVersion": manifest.version,
        "appDVersion": manifest.version,
        "checksum": _digest(image),
        "softwareImages": [{"id": application.id, "name": str(image.get("name") or manifest.name)}],
        "onboardingState": "ONBOARDED",
        "operationalState": operational_state(enabled=application.enabled),
        "usageState": "IN_USE" if used else "NOT_IN_USE",
        "mecInfo": [MEC_VERSION],
        "userDefinedData": {name: shown[name] for name in ("requiredResources", "componentSpec", "operatingSystem") if name in shown},
        "_links": {"self": {"href": base}, "appD": {"href": f"{base}/appd"}, "appPkgContent": {"href": f"{base}/package_content"}},
    }


def descriptor(application: Application) -> dict[str, Any]:
    """Return the descriptor of an application in the standard's form, with the properties that its image and manifest define."""
    manifest, image, needs = application.manifest, application.image, application.needs
    software = {
        "id": application.id,
        "name": str(image.get("name") or manifest.name),
        "version": manifest.version,
        "checksum": _digest(image),
        "containerFormat": str(image.get("container_format") or "bare"),
        "diskFormat": str(image.get("disk_format") or "raw"),
        "minDisk": needs.disk_gb,
        "minRam": needs.memory_mb,
        "size": int(image.get("size") or 0),
        "swImage": {},
    }
    ports = [
        {"inherited_attributes": {"interfaceId": each.interface_id, "protocol": each.protocol, "port": each.port}}
        for each in manifest.interfaces
        if each.interface_id in manifest.ports
    ]
    return {
        "appDId": application.id,
        "appName": manifest.name,
        "appProvider": manifest.app_provider,
        "appSoftVersion": manifest.version,
        "appDVersion": manifest.version,
        "mecVersion": MEC_VERSION,
        "appDescription": str(image.get("description") or image.get("name") or manifest.name),
        "virtualComputeDescriptor": {
            "virtualComputeDescId": "machine",
            "virtualMemory": {"virtualMemSize": needs.memory_mb},
            "virtualCpu": {"numVirtualCpu": needs.cpus},
        },
        "swImageDescriptor": [software],
        "appExtCpd": ports or [{"inherited_attributes": {}}],
    }


def _digest(image: Mapping[str, Any]) -> dict[str, str]:
    if image.get("os_hash_value"):
        return {"algorithm": str(image.get("os_hash_algo") or _SHA512), "hash": str(image["os_hash_value"])}
    return {"algorithm": _MD5, "hash": str(image.get("checksum") or "")}
