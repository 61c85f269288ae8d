"""The workflows of trials: sequences of a client's requests, each of which ends when all effects of the requests are complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.bench.crashes.client import RetryingClient


@dataclass(frozen=True)
class Workflow:
    """A sequence of requests to execute while a process is killed.

    Attributes:
        name: the name on the command line.
        prepare: creates the resource with which the workflow begins, and returns its name for `run`.
        run: makes the requests.
        sites: the number of sites that the workflow needs.
    """

    name: str
    prepare: Callable[[RetryingClient], str]
    run: Callable[[RetryingClient, str], None]
    sites: int = 1


def _nothing(_client: RetryingClient) -> str:
    return ""


def _booted(client: RetryingClient) -> str:
    resource = client.make("server", "server", zone="")
    client.await_server(resource, active)
    return resource


def active(server: Mapping[str, Any]) -> bool:
    """Return whether a server is ACTIVE and has no task."""
    return server["status"] == "ACTIVE" and not server.get("OS-EXT-STS:task_state")


def _boot(client: RetryingClient, _thing: str) -> None:
    _booted(client)


def _delete(client: RetryingClient, resource: str) -> None:
    client.retry("server.delete", resource)
    client.await_gone(resource)


def _delete_at_once(client: RetryingClient, _thing: str) -> None:
    _delete(client, client.make("server", "server", zone=""))


def _delete_on_host(client: RetryingClient, _thing: str) -> None:
    """Delete a server while it is being built on its host."""
    resource = client.make("server", "server", zone="")
    client.await_server(resource, lambda server: bool(server.get("OS-EXT-SRV-ATTR:host")), 10)
    _delete(client, resource)


def _resize(client: RetryingClient, resource: str) -> None:
    path = f"/servers/{client.id(resource)}/action"
    client.act_until_answered("server.resize", resource, path, {"resize": {"flavorRef": "2"}})
    server = client.await_server(resource, lambda each: each["status"] in ("VERIFY_RESIZE", "ACTIVE") and not _task(each))
    if server.get("status") == "VERIFY_RESIZE":
        client.act_until_answered("server.confirm", resource, path, {"confirmResize": None})
        client.await_server(resource, active)


def _task(server: Mapping[str, Any]) -> Any:
    return server.get("OS-EXT-STS:task_state")


def _attach(client: RetryingClient, resource: str) -> None:
    """Attach an interface, and detach it if the attachment was acknowledged."""
    path = f"/servers/{client.id(resource)}/os-interface"
    body = {"interfaceAttachment": {"net_id": client.tenancy["network"]}}
    answer = client.act("server.attach", resource, "compute", "POST", path, body)
    if answer is not None and answer.ok:
        port = answer.body["interfaceAttachment"]["port_id"]
        client.act("server.detach", resource, "compute", "DELETE", f"{path}/{port}", None)


def _upload(client: RetryingClient, _thing: str) -> None:
    _uploaded(client)


def _uploaded(client: RetryingClient) -> str:
    resource = client.make("image", "image")
    client.retry("image.upload", resource, seed=1, size=50_000)
    return resource


def _delete_image(client: RetryingClient, resource: str) -> None:
    """Request the deletion of an image only once: after a crash, the image must be whole or gone without another request."""
    client.act("image.delete", resource, "image", "DELETE", f"/v2/images/{client.id(resource)}", None)


def _identity(client: RetryingClient, _thing: str) -> None:
    """Create a project, a user and a grant, and change each."""
    project = client.make("project", "project", description="before")
    user = client.make("user", "user", password="a" * 10, description="before", enabled=True)
    client.retry("grant.create", f"{user}/{project}")
    client.retry("user.password", user, password="b" * 10)
    client.retry("project.describe", project, description="after")
    client.retry("grant.delete", f"{user}/{project}")
    client.retry("user.delete", user)
    client.retry("project.delete", project)


def _boot_elsewhere(client: RetryingClient, _network: str) -> None:
    """Boot a server at the other site, to which its image and network are copied."""
    client.await_server(client.make("server", "server", zone=client.sites[1]), active)


def _refused_elsewhere(client: RetryingClient, network: str) -> None:
    """Request servers at the other site beyond its quota; the copies that were made for them are removed."""
    client.expects_no_copies = True
    body = {"name": "never", "imageRef": client.tenancy["image"], "flavorRef": client.tenancy["flavor"]}
    server = {**body, "networks": [{"uuid": network}], "availability_zone": client.sites[1], "min_count": 5000}
    client.act("server.refused", "never", "compute", "POST", "/servers", {"server": server})


WORKFLOWS = {
    workflow.name: workflow
    for workflow in (
        Workflow("boot", _nothing, _boot),
        Workflow("delete", _booted, _delete),
        Workflow("delete-at-once", _nothing, _delete_at_once),
        Workflow("delete-on-host", _nothing, _delete_on_host),
        Workflow("resize", _booted, _resize),
        Workflow("attach", _booted, _attach),
        Workflow("upload", _nothing, _upload),
        Workflow("delete-image", _uploaded, _delete_image),
        Workflow("identity", _nothing, _identity),
        Workflow("boot-elsewhere", RetryingClient.use_network, _boot_elsewhere, 2),
        Workflow("refused-elsewhere", RetryingClient.use_network, _refused_elsewhere, 2),
        Workflow("identity-everywhere", _nothing, _identity, 2),
    )
}
"""The workflows by name."""

JOIN = "join"
"""The name of the workflow in which a site joins a cloud; another executor runs its trials (`join.JoinTester`)."""

NAMES = (*WORKFLOWS, JOIN)
"""The names of all workflows."""
