"""The error registry: one stable code for every failure that a person or a program may meet.

A code is never renamed nor reused. `status` is the HTTP status with which an API would answer. `definite` is True if the operation
certainly did not happen: a checker may then count it as failed; otherwise the outcome is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of failure.

    Attributes:
        code: the failure's stable code, dotted by subject.
        status: the HTTP status.
        text: the description, for the reference page.
        definite: True if the operation certainly did not happen.
    """

    code: str
    status: int
    text: str
    definite: bool = True


_KINDS = (
    Kind("cloud.invalid", 400, "The cloud's YAML does not validate."),
    Kind("cloud.not_found", 404, "The cloud or the file does not exist."),
    Kind("scope.invalid", 400, "A scope is malformed, or no site can satisfy it; the message names the column."),
    Kind("site.unknown", 404, "No site has that name in this cloud."),
    Kind("site.not_running", 409, "The cloud or the site is not running."),
    Kind("site.running", 409, "The site is running, and must be stopped for this operation."),
    Kind("site.needed", 409, "Other sites need this one: it is their control site."),
    Kind("site.failed", 500, "A process of a site did not become ready.", definite=False),
    Kind("state.busy", 409, "Another command is changing this cloud now."),
    Kind("state.version", 409, "The state directory was written by another version."),
    Kind("state.space", 507, "The file system has too little free space."),
    Kind("machine.limit", 507, "This machine or this user has too little memory for the processes to start, or may open too few files."),
    Kind("state.unusable", 500, "The state directory cannot be used."),
    Kind("port.in_use", 409, "Another process uses a port that a site needs."),
    Kind("port.unusable", 409, "A port or an address that a site needs cannot be listened on."),
    Kind("process.unknown", 404, "The supervisor has no process of that name."),
    Kind("command.not_found", 404, "The program to run in a site does not exist."),
    Kind("control.refused", 403, "Another user may not use a control socket of this cloud."),
    Kind("runtime.invalid", 400, "The supervisor received a malformed request."),
    Kind("runtime.internal", 500, "The supervisor had an internal error.", definite=False),
    Kind("runtime.unreachable", 503, "The supervisor does not answer.", definite=False),
    Kind("guests.unavailable", 501, "This machine or this user can't run real guests, or a program that they need is missing."),
    Kind("network.unavailable", 501, "This machine can't run a network service, or a program that it needs is missing."),
    Kind("database.unavailable", 503, "The server of a site's databases can't be used, or the program of one to start is not installed."),
    Kind("database.left", 503, "Databases of a site at a server could not be removed; everything else was.", definite=False),
    Kind("database.occupied", 409, "The place to which a site's data are to be moved holds other data already."),
    Kind("database.failed", 500, "A site's data could not be moved to another place; the site still uses the old one."),
    Kind("wan.unavailable", 501, "This machine or this user can't have an emulated WAN."),
    Kind("wan.unknown", 404, "The WAN has no such site, router or link."),
    Kind("wan.invalid", 400, "The WAN received a malformed request."),
    Kind("wan.not_running", 409, "The cloud has no WAN: it is not running, or has no topology."),
    Kind("wan.failed", 500, "The WAN had an internal error, or does not answer.", definite=False),
    Kind("testbed.invalid", 400, "A provider's file does not validate, or a link has a property that the testbed can't give it."),
    Kind("testbed.not_found", 404, "A provider's file does not exist."),
    Kind("testbed.requirement", 412, "A package or file that is needed to use a testbed is not installed."),
    Kind("testbed.unreachable", 503, "A host of a testbed can't be reached over SSH.", definite=False),
    Kind("testbed.unsuitable", 409, "A host of a testbed can't run a site: no root, an old Python, or a kernel without netem."),
    Kind("testbed.failed", 500, "A testbed's provider, or a command on one of its hosts, failed.", definite=False),
    Kind("gateway.failed", 500, "A site's gateway had an internal error.", definite=False),
    Kind("mesh.refused", 409, "The mesh refuses the request."),
    Kind("join.refused", 403, "A join token is malformed, expired or used up, or its site refuses it."),
    Kind("join.unanswered", 504, "The site that issued a join token gave no clear answer: it may have admitted the site.", definite=False),
    Kind("join.unreachable", 503, "The site that issued a join token cannot be reached."),
    Kind("server.unknown", 404, "No server has that name or id, or several have the name."),
    Kind("console.unavailable", 409, "A server has no serial console now, or it can't be opened."),
    Kind("tempest.missing", 404, "The site lacks a resource that Tempest needs."),
    Kind("rally.unavailable", 503, "Rally's own environment can't be made, or does not work."),
    Kind("image.requirement", 412, "A program or package that the guest image needs is not installed."),
    Kind("image.kernel", 400, "A kernel is not suitable for the guest image."),
    Kind("image.failed", 500, "The guest image could not be made."),
    Kind("image.exists", 409, "Another image already has the guest image's name."),
    Kind("trace.unknown", 404, "No store of the cloud has such a trace, or several begin with the given digits."),
    Kind("trace.invalid", 400, "A file contains no trace, or a trace can't be analysed as asked."),
    Kind("trace.store", 500, "The store of a site's traces can't be read."),
    Kind("cloudlet.invalid", 400, "A file is not a base, launch image or overlay, or is damaged."),
    Kind("cloudlet.untrusted", 403, "No trusted key signed an overlay."),
    Kind("cloudlet.key", 400, "A file contains no key that can sign or verify an overlay."),
    Kind("cloudlet.base", 409, "An overlay belongs to another base."),
    Kind("cloudlet.cpu", 409, "An image with memory needs another CPU model."),
    Kind("cloudlet.changed", 409, "A guest's file was written to while it was read."),
    Kind("cloudlet.exists", 409, "A file or directory already has the name of the one to make."),
    Kind("cloudlet.busy", 409, "Another command is making the same launch image."),
    Kind("cloudlet.source", 502, "The source of an overlay failed or ended early; what arrived is kept."),
    Kind("cloudlet.unusable", 500, "A file of an image or an overlay can't be read or written."),
    Kind("cloudlet.upload", 502, "A base or an overlay can't be uploaded to Glance."),
    Kind("cloudlet.capture", 409, "A running guest can't be captured with its memory."),
    Kind("cloudlet.worker", 500, "A process of a cloudlet command was killed."),
    Kind("cloudlet.handoff", 409, "A server is not handed off to another site; the message has the reason, and it stays where it is."),
    Kind("cloudlet.unsettled", 503, "It is not known yet how a hand-off ends; the sites settle it by themselves.", definite=False),
    Kind("cloudlet.run", 409, "No server is started near the device; the message has the reason."),
    Kind("cloudlet.unready", 504, "A server near the device does not answer yet; it stays.", definite=False),
    Kind(
        "discovery.credentials",
        400,
        "The credentials of clouds.yaml or the environment are incomplete or wrong, or name no site's gateway.",
    ),
    Kind("discovery.refused", 409, "A site's gateway did not answer which site is nearest; the message has the reason."),
    Kind("discovery.unreachable", 503, "The gateway that the credentials name does not answer."),
    Kind("discovery.network", 409, "A local network can't be used for DNS-SD: no such interface, no multicast, or port 5353 is busy."),
    Kind("discovery.nobody", 404, "No gateway on the local network has proved that it belongs to the cloud."),
    Kind("plan.invalid", 400, "The YAML of a placement plan does not validate."),
    Kind("plan.not_found", 404, "The file of a placement plan does not exist."),
    Kind("plan.exists", 409, "The file that the planned cloud would be written to exists already, or is the plan."),
    Kind("plan.requirement", 412, "A placement plan needs a solver that is not installed."),
    Kind("plan.infeasible", 409, "No placement keeps all bounds of a plan; the message names those that contradict."),
    Kind("plan.unsolved", 504, "The solver found no placement within its time."),
    Kind("experiment.invalid", 400, "The YAML of an experiment does not validate, or two runs can't be compared."),
    Kind("experiment.not_found", 404, "The file of an experiment, or a run, does not exist."),
    Kind("experiment.not_empty", 409, "The directory of an export has files already."),
    Kind("experiment.busy", 409, "Another command executes the same run now."),
    Kind("experiment.requirement", 412, "Experiments need a library that is not installed."),
    Kind("experiment.damaged", 500, "The files of a run can't be read."),
    Kind("experiment.failed", 500, "Cells of an experiment failed; the others are complete.", definite=False),
    Kind("bench.requirement", 412, "A benchmark needs a program that is not installed."),
    Kind("bench.failed", 500, "A benchmark met an error and stopped.", definite=False),
)

REGISTRY = {kind.code: kind for kind in _KINDS}


class AtollError(Exception):
    """An expected failure: a message in one line, and a hint for a remedy.

    Args:
        code: a code of `REGISTRY`.
        message: the error, its place, and the expected value or state.
        hint: a remedy, preferably a command.

    Raises:
        KeyError: the code is not registered.
    """

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind = REGISTRY[code]
        self.message = message
        self.hint = hint
