"""The error registry: every failure that a person or a program may meet has one stable code here.

A code is never renamed nor used for something else. `status` is the HTTP status that an API would answer with.
`definite` tells whether the operation certainly did not happen: a checker may then call it failed; otherwise it is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of failure.

    Attributes:
        code: stable, dotted by subject.
        status: HTTP status.
        text: what this kind of failure means, for the reference page.
        definite: True if the operation certainly did not happen.
    """

    code: str
    status: int
    text: str
    definite: bool = True


_KINDS = (
    Kind("cloud.invalid", 400, "The cloud's YAML does not validate."),
    Kind("cloud.not_found", 404, "No cloud, or no such file."),
    Kind("scope.invalid", 400, "A scope makes no sense, or asks for what can't be had; the message names the column."),
    Kind("site.unknown", 404, "No site has that name in this cloud."),
    Kind("site.not_running", 409, "The cloud or the site is not running."),
    Kind("site.needed", 409, "Other sites need this one: it is their control site."),
    Kind("site.failed", 500, "A process of a site did not become ready.", definite=False),
    Kind("state.busy", 409, "Another command is changing this cloud now."),
    Kind("state.version", 409, "The state directory was written by another version."),
    Kind("state.space", 507, "The file system is too full."),
    Kind("machine.limit", 507, "This machine or this user has too little memory, or may open too few files, for what is to be started."),
    Kind("state.unusable", 500, "The state directory cannot be used."),
    Kind("port.in_use", 409, "A port that a site needs is taken."),
    Kind("port.unusable", 409, "A port or an address that a site needs cannot be listened on."),
    Kind("process.unknown", 404, "The supervisor has no process of that name."),
    Kind("command.not_found", 404, "There is no such program to be run in a site."),
    Kind("runtime.invalid", 400, "The supervisor cannot make sense of what it was asked for."),
    Kind("runtime.internal", 500, "The supervisor met an error of its own.", definite=False),
    Kind("runtime.unreachable", 503, "The supervisor does not answer.", definite=False),
    Kind("guests.unavailable", 501, "This machine or this user can't run real guests, or something is missing that they need."),
    Kind("network.unavailable", 501, "This machine can't have a network service, or something is missing that it needs."),
    Kind("wan.unavailable", 501, "This machine or this user can't have an emulated WAN."),
    Kind("wan.unknown", 404, "The WAN has no such site, router or link."),
    Kind("wan.invalid", 400, "The WAN can't make sense of what it was asked for."),
    Kind("wan.not_running", 409, "There is no WAN: the cloud is not up, or has no topology."),
    Kind("wan.failed", 500, "The WAN met an error of its own, or does not answer.", definite=False),
    Kind("gateway.failed", 500, "A site's gateway met an error of its own.", definite=False),
    Kind("mesh.refused", 409, "The mesh refuses what it was asked for."),
    Kind("join.refused", 403, "A join token does not serve: it is malformed, expired or used up, or its site refuses it."),
    Kind("join.unreachable", 503, "The site that gave a join token cannot be reached."),
    Kind("server.unknown", 404, "No server has that name or id, or several have the name."),
    Kind("console.unavailable", 409, "A server has no serial console now, or it can't be opened."),
    Kind("tempest.missing", 404, "The site lacks something that Tempest needs."),
    Kind("image.requirement", 412, "The guest image can't be made without something that is not installed."),
    Kind("image.kernel", 400, "A kernel does not serve for the guest image."),
    Kind("image.failed", 500, "The guest image could not be made."),
    Kind("image.exists", 409, "Another image has the name that the guest image is to have."),
    Kind("bench.requirement", 412, "A benchmark needs a program that is not installed."),
    Kind("bench.failed", 500, "A benchmark met an error and was given up.", definite=False),
)

REGISTRY = {kind.code: kind for kind in _KINDS}


class AtollError(Exception):
    """An expected failure: one line for a person, and a hint of what to do.

    Args:
        code: a code of `REGISTRY`.
        message: what is wrong, where, and what was expected.
        hint: what to do about it, best a command.

    Raises:
        KeyError: the code is not registered.
    """

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind = REGISTRY[code]
        self.message = message
        self.hint = hint
