"""The bodies of requests and answers of ETSI MEC 010-2, life cycle management."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from atoll.gateway.edge.applications import ID, Application
from atoll.gateway.edge.etsi import Strict, parsed
from atoll.gateway.edge.instances import AppInstance
from atoll.gateway.edge.lifecycle.store import IdleInstance, LifeOperation, OperationKind
from atoll.gateway.edge.problem import Problem, invalid

LONGEST_WAIT_S = 3600
"""Greatest number of seconds of a graceful termination."""

UNKNOWN = "unknown"
"""The name, provider and version of an application that the caller may no longer see; the standard requires these attributes."""

_NOT_SUPPORTED = (
    "virtualComputeDescriptor",
    "osContainerDescriptor",
    "virtualStorageDescriptor",
    "locationConstraints",
    "vimConnectionInfo",
    "appTermCandsForCoord",
)


class WantedInstance(Strict):
    """An instance that is to be created.

    Attributes:
        app_d_id: the id of the application.
        app_instance_name: the name of the instance, and of its server.
        app_instance_description: a text for people.
    """

    app_d_id: str = Field(alias="appDId")
    app_instance_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    app_instance_description: Annotated[str, Field(max_length=255)] | None = None


class _Host(Strict):
    host_name: str | None = None
    host_id: dict[str, Any]


class _Instantiation(Strict):
    selected_mec_host_info: Annotated[list[_Host], Field(min_length=1, max_length=1, alias="selectedMECHostInfo")]


class _Operate(Strict):
    change_state_to: Literal["STARTED", "STOPPED"]
    stop_type: Literal["FORCEFUL", "GRACEFUL"] | None = None
    graceful_stop_timeout: Annotated[int, Field(ge=0)] | None = None


class Termination(Strict):
    """The way in which an instance's server is deleted.

    Attributes:
        termination_type: "GRACEFUL" if the guest is shut down first, otherwise "FORCEFUL".
        graceful_termination_timeout: the seconds that the shutdown may take.
    """

    termination_type: Literal["FORCEFUL", "GRACEFUL"]
    graceful_termination_timeout: Annotated[int, Field(ge=0, le=LONGEST_WAIT_S)] | None = None

    @property
    def wait_s(self) -> int:
        """The seconds that the guest's shutdown may take; 0 if the server is deleted at once."""
        if self.termination_type == "FORCEFUL":
            return 0
        return 60 if self.graceful_termination_timeout is None else self.graceful_termination_timeout


def wanted(body: bytes) -> WantedInstance:
    """Return the instance in the body of a request.

    Raises:
        Problem: the body does not conform to the standard.
    """
    found: WantedInstance = parsed(body, "CreateAppInstanceRequest", TypeAdapter(WantedInstance))
    if not ID.fullmatch(found.app_d_id):
        raise Problem(404, "there is no such application")
    return found


def site_of(body: bytes, sites: Iterable[str]) -> str:
    """Return the site at which a request wants an instance.

    Raises:
        Problem: the body does not conform to the standard, or does not name exactly one site.
    """
    fields = parsed(body, "InstantiateAppRequest", TypeAdapter(dict[str, Any]))
    if used := [name for name in _NOT_SUPPORTED if name in fields]:
        raise Problem(501, f"{used[0]} is not supported: the flavor follows from the package, and the place from selectedMECHostInfo")
    found: _Instantiation = parsed(body, "InstantiateAppRequest", TypeAdapter(_Instantiation))
    (host,) = found.selected_mec_host_info
    if host.host_id.keys() - {"site"}:
        raise invalid('selectedMECHostInfo.hostId is not understood: expected {"site": SITE}')
    if not isinstance(host.host_id.get("site", ""), str):
        raise invalid("selectedMECHostInfo.hostId.site is no text")
    names = {name for name in (host.host_id.get("site"), host.host_name) if name is not None}
    if len(names) != 1:
        raise invalid('selectedMECHostInfo names no site, or two: expected hostId {"site": SITE}')
    (name,) = names
    if name not in set(sites):
        raise Problem(404, "there is no site with the name in selectedMECHostInfo")
    return str(name)


def starts(body: bytes) -> bool:
    """Return whether a request starts an instance; False if it stops it.

    Raises:
        Problem: the body does not conform to the standard.
    """
    found: _Operate = parsed(body, "OperateAppRequest", TypeAdapter(_Operate))
    if found.change_state_to == "STARTED" and (found.stop_type is not None or found.graceful_stop_timeout is not None):
        raise invalid("OperateAppRequest has stopType or gracefulStopTimeout: expected neither with changeStateTo STARTED")
    return found.change_state_to == "STARTED"


def termination_of(body: bytes) -> Termination:
    """Return the termination in the body of a request.

    Raises:
        Problem: the body does not conform to the standard.
    """
    found: Termination = parsed(body, "TerminateAppRequest", TypeAdapter(Termination))
    if found.termination_type == "FORCEFUL" and found.graceful_termination_timeout is not None:
        raise invalid("TerminateAppRequest has gracefulTerminationTimeout: expected it with terminationType GRACEFUL alone")
    return found


def without_server(identifier: IdleInstance, application: Application | None, base: str) -> dict[str, Any]:
    """Return an instance without a server in the standard's form.

    Args:
        identifier: the instance.
        application: its application, if the caller may see it.
        base: the URL of the instance.
    """
    shown = _common(identifier.id, identifier.app, identifier.name, application)
    if identifier.description:
        shown["appInstanceDescription"] = identifier.description
    links = {"self": {"href": base}, "instantiate": {"href": f"{base}/instantiate"}}
    return shown | {"instantiationState": "NOT_INSTANTIATED", "_links": links}


def with_server(instance: AppInstance, identifier: str, description: str, application: Application | None, base: str) -> dict[str, Any]:
    """Return an instance that has a server in the standard's form.

    Args:
        instance: the instance.
        identifier: its id.
        description: a text for people; empty for none.
        application: its application, if the caller sees it.
        base: the URL of the instance.
    """
    shown = _common(identifier, instance.app, instance.server_name, application)
    if application is None:
        shown["appProvider"] = instance.provider
    if description:
        shown["appInstanceDescription"] = description
    points = [
        {"host": host, "port": point["port"]} for _interface, point in instance.access_points() for host in (*instance.ipv4, *instance.ipv6)
    ]
    if points:
        shown["communicationInterface"] = {"ipAddresses": points}
    links = {"self": {"href": base}, "terminate": {"href": f"{base}/terminate"}, "operate": {"href": f"{base}/operate"}}
    state = {"operationalState": "STARTED" if instance.status == "ready" else "STOPPED"}
    return shown | {"instantiationState": "INSTANTIATED", "instantiatedAppState": state, "_links": links}


def _common(identifier: str, app: str, name: str, application: Application | None) -> dict[str, Any]:
    manifest = application.manifest if application is not None else None
    return {
        "id": identifier,
        "appInstanceName": name or (manifest.name if manifest is not None else UNKNOWN),
        "appDId": app,
        "appPkgId": app,
        "appProvider": manifest.app_provider if manifest is not None else UNKNOWN,
        "appName": manifest.name if manifest is not None else UNKNOWN,
        "appSoftVersion": manifest.version if manifest is not None else UNKNOWN,
        "appDVersion": manifest.version if manifest is not None else UNKNOWN,
    }


def occurrence(operation: LifeOperation, base: str, instance: str) -> dict[str, Any]:
    """Return an operation in the standard's form.

    Args:
        operation: the operation.
        base: the URL of the operation.
        instance: the URL of the instance.
    """
    shown: dict[str, Any] = {
        "id": operation.id,
        "operationState": operation.state.value,
        "stateEnteredTime": _time(operation.entered_s),
        "startTime": _time(operation.began_s),
        "lcmOperation": "OPERATE" if operation.kind in {OperationKind.START, OperationKind.STOP} else operation.kind.value,
        "isCancelPending": False,
        "_links": {"self": {"href": base}, "appInstance": {"href": instance}},
    }
    if operation.parameters:
        shown["operationParams"] = operation.parameters
    return shown


def _time(unix_s: float) -> dict[str, int]:
    seconds, part = divmod(unix_s, 1.0)
    return {"seconds": int(seconds), "nanoSeconds": int(part * 10**9)}
