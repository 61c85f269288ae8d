"""The workflows of trials: a client's requests, until none of their effects is still under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.bench.crashes.client import Insistent


@dataclass(frozen=True)
class Workflow:
    """A sequence of requests to execute while a process is killed.

    Attributes:
        name: the name on the command line.
        prepare: creates the resource with which the workflow begins, and returns its name for `run`.
        run: makes the requests.
        sites: the number of sites that it needs.
    """

    name: str
    prepare: Callable[[Insistent], str]
    run: Callable[[Insistent, str], None]
    sites: int = 1


def _nothing(_client: Insistent) -> str:
    return ""


def _booted(client: Insistent) -> str:
    thing = client.make("server", "server", zone="")
    client.await_server(thing, active)
    return thing


def active(server: Mapping[str, Any]) -> bool:
    """Return whether a server is ACTIVE and has no task."""
    return server["status"] == "ACTIVE" and not server.get("OS-EXT-STS:task_state")


def _boot(client: Insistent, _thing: str) -> None:
    _booted(client)


def _delete(client: Insistent, thing: str) -> None:
    client.insist("server.delete", thing)
    client.await_gone(thing)


def _delete_at_once(client: Insistent, _thing: str) -> None:
    _delete(client, client.make("server", "server", zone=""))


def _delete_on_host(client: Insistent, _thing: str) -> None:
    """Delete a server while it is being built on its host."""
    thing = client.make("server", "server", zone="")
    client.await_server(thing, lambda server: bool(server.get("OS-EXT-SRV-ATTR:host")), 10)
    _delete(client, thing)


def _resize(client: Insistent, thing: str) -> None:
    path = f"/servers/{client.id(thing)}/action"
    client.press("server.resize", thing, path, {"resize": {"flavorRef": "2"}})
    server = client.await_server(thing, lambda each: each["status"] in ("VERIFY_RESIZE", "ACTIVE") and not _task(each))
    if server.get("status") == "VERIFY_RESIZE":
        client.press("server.confirm", thing, path, {"confirmResize": None})
        client.await_server(thing, active)


def _task(server: Mapping[str, Any]) -> Any:
    return server.get("OS-EXT-STS:task_state")


def _attach(client: Insistent, thing: str) -> None:
    """Attach an interface, and detach it if the attachment was acknowledged."""
    path = f"/servers/{client.id(thing)}/os-interface"
    body = {"interfaceAttachment": {"net_id": client.tenancy["network"]}}
    answer = client.act("server.attach", thing, "compute", "POST", path, body)
    if answer is not None and answer.ok:
        port = answer.body["interfaceAttachment"]["port_id"]
        client.act("server.detach", thing, "compute", "DELETE", f"{path}/{port}", None)


def _upload(client: Insistent, _thing: str) -> None:
    _uploaded(client)


def _uploaded(client: Insistent) -> str:
    thing = client.make("image", "image")
    client.insist("image.upload", thing, seed=1, size=50_000)
    return thing


def _delete_image(client: Insistent, thing: str) -> None:
    """Request the deletion of an image once: after a crash it is whole or gone, without another request."""
    client.act("image.delete", thing, "image", "DELETE", f"/v2/images/{client.id(thing)}", None)


def _identity(client: Insistent, _thing: str) -> None:
    """Create a project, a user and a grant, and change each."""
    project = client.make("project", "project", description="before")
    user = client.make("user", "user", password="a" * 10, description="before", enabled=True)
    client.insist("grant.create", f"{user}/{project}")
    client.insist("user.password", user, password="b" * 10)
    client.insist("project.describe", project, description="after")
    client.insist("grant.delete", f"{user}/{project}")
    client.insist("user.delete", user)
    client.insist("project.delete", project)


def _boot_elsewhere(client: Insistent, _network: str) -> None:
    """Boot a server at the other site, to which its image and network are copied."""
    client.await_server(client.make("server", "server", zone=client.sites[1]), active)


def _refused_elsewhere(client: Insistent, network: str) -> None:
    """Request servers at the other site beyond its quota; the copies that were made for them are removed."""
    client.undone = True
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
        Workflow("boot-elsewhere", Insistent.use_network, _boot_elsewhere, 2),
        Workflow("refused-elsewhere", Insistent.use_network, _refused_elsewhere, 2),
        Workflow("identity-everywhere", _nothing, _identity, 2),
    )
}
"""The workflows by name."""

JOIN = "join"
"""The workflow of a site that joins the cloud of another one, which has trials of its own (`join.py`)."""

NAMES = (*WORKFLOWS, JOIN)
"""The names of all workflows."""
