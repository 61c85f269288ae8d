"""Faults as steps of a cell: their kinds, their targets, and the times or points of a workflow at which they happen.

This module only describes faults. `atoll.bench.cell_faults` injects them, because injection needs a running cloud.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from atoll.cloud import Cloud
from atoll.cloud.model import Name
from atoll.cloud.quantities import DURATION, PROBABILITY, RATE, Duration, Probability, Rate
from atoll.cloud.topology import Shape
from atoll.db.address import address
from atoll.experiment.quantities import TIME, Time, seconds
from atoll.site.composition import services_of

AHEAD = "a time of up to 24h with an optional sign, such as 90s or -5min"


@dataclass(frozen=True)
class FaultKind:
    """The description of a kind of fault, by which an experiment's file is checked.

    Attributes:
        targets: the kinds of targets that the fault may have: "site", "link" and "process".
        needs: parameters, of which a step must give at least one; empty if none is needed.
        meaning: the effect of the fault; it completes the sentence "this fault …".
    """

    targets: frozenset[str]
    needs: tuple[str, ...]
    meaning: str


_PLACES = frozenset({"site", "link"})
KINDS: Mapping[str, FaultKind] = {
    "cut": FaultKind(_PLACES, (), "drops all packets of a link, or of all links of a site, without an error"),
    "degrade": FaultKind(
        _PLACES, ("delay", "jitter", "rate", "loss"), "changes the delay, jitter, rate or loss of a link, or of all links of a site"
    ),
    "loss": FaultKind(_PLACES, ("loss",), "makes a link, or all links of a site, lose a share of the packets in each direction"),
    "kill": FaultKind(
        frozenset({"site", "process"}),
        (),
        "sends SIGKILL to a process, which the supervisor starts again; or to all processes of a site whose links are cut first, as a power"
        " cut does, until the site is started again",
    ),
    "restart": FaultKind(
        frozenset({"site", "process"}), (), "stops a site in good order and starts it after `lasts`; or restarts one process"
    ),
    "clock": FaultKind(frozenset({"site"}), ("ahead",), "sets the time of day of a site ahead, or behind with a negative `ahead`"),
    "power-cut": FaultKind(
        frozenset({"site"}),
        (),
        "cuts the links of a site and the power of its disk, which loses whatever was not flushed, and kills all processes of the site."
        " When the fault ends, the disk is mounted and the site is started again",
    ),
    "full-disk": FaultKind(
        frozenset({"site"}),
        (),
        "allocates all free blocks of a site's disk. When the fault ends, they are released, and processes that ended meanwhile are started"
        " again",
    ),
}
"""The kinds of faults by name."""

ON_DISK = frozenset({"power-cut", "full-disk"})
"""The kinds for which the site needs a disk of its own: an ext4 file system on a loop device, which only root can set up."""

_PARAMETERS = ("delay", "jitter", "rate", "loss", "ahead")
_LASTING_PROCESS = "a process is started again at once: expected no `lasts`"


def ahead_seconds(text: str) -> float:
    """Parse a time with an optional sign, and return it in seconds.

    Raises:
        ValueError: the text is not a time.
    """
    return -seconds(text[1:]) if text.startswith("-") else seconds(text)


def _checked_ahead(text: str) -> str:
    ahead_seconds(text)
    return text


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class WorkflowPoint(_Model):
    """A point of a workflow: the start or the end of the n-th span with a given name after the measured operations have started.

    The process waits at the point until the fault is in effect. All requests of such an experiment are recorded.

    Attributes:
        span: the name of the span, as `atoll trace show` prints it; `*` stands for any text.
        site: the site of the process that records the span; `None` means any site.
        service: the service that records the span; `None` means any service.
        edge: "start" or "end" of the span. Spans of database statements have only an end.
        number: which of the matching spans is meant, from 1.
    """

    span: str = Field(min_length=1, max_length=200, description="the name of a span, such as `compute build_and_run_instance`")
    site: str | None = Field(default=None, description="the name of a site")
    service: str | None = Field(default=None, min_length=1, description="the name of a service, such as `nova`")
    edge: Literal["start", "end"] = Field(default="start", description="`start` or `end`")
    number: int = Field(default=1, ge=1, le=100_000, description="a whole number from 1 to 100000")


class Step(_Model):
    """One fault of a cell. It happens at a time (`at`) or at a point of a workflow (`when`).

    Attributes:
        kind: the kind of the fault.
        target: the target of the fault.
        at: time from the start of the measured operations, in place of `when`.
        when: point of a workflow, in place of `at`.
        lasts: time until the fault is undone; `None` means at the end of the workload.
        delay: delay of one direction, of a degraded link.
        jitter: greatest deviation from the delay, longer or shorter, of a degraded link.
        rate: bits of IP packets per second in each direction, of a degraded link.
        loss: share of packets that are lost in each direction.
        ahead: time by which the clock is ahead of the right time; negative if it is behind.
    """

    kind: Literal["cut", "degrade", "loss", "kill", "restart", "clock", "power-cut", "full-disk"] = Field(
        description="`cut`, `degrade`, `loss`, `kill`, `restart`, `clock`, `power-cut` or `full-disk`"
    )
    target: str = Field(
        min_length=1, description="a site, a link such as `site-1:site-2`, or a process such as `site-1/nova`, by the kind of the fault"
    )
    at: Time | None = Field(default=None, description=TIME)
    when: WorkflowPoint | None = Field(default=None, description="a mapping such as {span: compute build_and_run_instance, service: nova}")
    lasts: Time | None = Field(default=None, description=TIME)
    delay: Duration | None = Field(default=None, description=DURATION)
    jitter: Duration | None = Field(default=None, description=DURATION)
    rate: Rate | None = Field(default=None, description=RATE)
    loss: Probability | None = Field(default=None, description=PROBABILITY)
    ahead: Annotated[str, AfterValidator(_checked_ahead)] | None = Field(default=None, description=AHEAD)

    @model_validator(mode="after")
    def _check(self) -> Step:
        for text in self._complaints():
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text})
        return self

    def _complaints(self) -> Iterator[str]:
        kind, given = KINDS[self.kind], [name for name in _PARAMETERS if getattr(self, name) is not None]
        if (self.at is None) == (self.when is None):
            yield "expected either `at` or `when`"
        if kind.needs and not given:
            yield f"{self.kind} needs {' or '.join(f'`{name}`' for name in kind.needs)}"
        if strange := [name for name in given if name not in kind.needs]:
            yield f"{self.kind} has no `{strange[0]}`"
        if self.form not in kind.targets:
            yield f"{self.kind} of a {self.form} ({self.target}): expected a {' or a '.join(sorted(kind.targets))}"
        if self.form == "process" and self.lasts is not None:
            yield _LASTING_PROCESS

    @property
    def form(self) -> str:
        """The kind of the target: "site", "link" or "process"."""
        return "link" if ":" in self.target else "process" if "/" in self.target else "site"

    @property
    def cause(self) -> str:
        """The time or the point at which the fault is to happen, as text."""
        if self.when is None:
            return f"at {self.at}"
        place = " of ".join(name for name in (self.when.service, self.when.site) if name)
        number = f", occurrence {self.when.number}" if self.when.number > 1 else ""
        return f"{self.when.edge} of {self.when.span}{f' in {place}' if place else ''}{number}"

    def to_json(self) -> dict[str, Any]:
        """Return the step with its times in seconds and its changes as fields of `atoll.cloud.network.Wire`."""
        shape = Shape(delay=self.delay, jitter=self.jitter, rate=self.rate, loss=self.loss)
        return {
            "kind": self.kind,
            "target": self.target,
            "cause": self.cause,
            "at_s": None if self.at is None else seconds(self.at),
            "when": None if self.when is None else self.when.model_dump(),
            "lasts_s": None if self.lasts is None else seconds(self.lasts),
            "changes": shape.changes(),
            "ahead_s": 0.0 if self.ahead is None else ahead_seconds(self.ahead),
        }


class Scenario(_Model):
    """Faults that happen in one cell. Every combination of an experiment's other factors runs with each scenario.

    Attributes:
        name: the scenario's name in results.
        steps: the faults; empty in a scenario that serves as the baseline without a fault.
    """

    name: Name = Field(description="a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter")
    steps: tuple[Step, ...] = Field(
        default=(), strict=False, description="a list of faults, such as [{kind: cut, target: site-2, at: 10s, lasts: 60s}]"
    )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the steps, ready for `json.dumps`."""
        return [step.to_json() for step in self.steps]


Complaint = tuple[tuple[str | int, ...], str]
"""The path of a wrong value in the document, and the reason."""


def complaints(scenarios: Sequence[Scenario], clouds: Mapping[str, Cloud]) -> Iterator[Complaint]:
    """Yield a complaint for each name that occurs twice, and for each target that some cloud does not have.

    Args:
        scenarios: the scenarios of an experiment.
        clouds: its clouds, by their names in results.
    """
    names = [scenario.name for scenario in scenarios]
    for index, scenario in enumerate(scenarios):
        if scenario.name in names[:index]:
            yield ("faults", index, "name"), f"a second scenario {scenario.name}: expected each name once"
        for number, step in enumerate(scenario.steps):
            for name, cloud in clouds.items():
                path = ("faults", index, "steps", number)
                if step.kind in ON_DISK and (server := _elsewhere(step.target, cloud)):
                    yield (
                        path,
                        f"the databases of {step.target} are at {server}, not on its disk: expected a database `sqlite` or {{start: …}}",
                    )
                if text := _missing(step.target, step.form, cloud):
                    yield (*path, "target"), f"{name} has no {step.form} {step.target}: expected one of {text}"
                if step.when is not None and step.when.site is not None and step.when.site not in cloud.site_names:
                    yield (*path, "when"), f"{name} has no site {step.when.site}: expected one of {', '.join(cloud.site_names)}"


def _elsewhere(target: str, cloud: Cloud) -> str:
    """Return the address of the database server that a site uses; empty if the databases are in the site's own directory."""
    site = next((each for each in cloud.sites if each.name == target), None)
    return address(site.database.url) if site is not None and site.database.url else ""


def _missing(target: str, form: str, cloud: Cloud) -> str:
    """Return the names of the possible targets if a cloud has no target of this name and form; empty if it has one."""
    if form == "site":
        known = list(cloud.site_names)
    elif form == "process":
        known = [f"{site.name}/{service.name}" for site in cloud.sites for service in services_of(cloud, site)]
    else:
        network = cloud.network
        known = [":".join(link) for link in network.links] if network is not None else []
        if ":".join(reversed(target.split(":"))) in known:
            return ""
    if target in known:
        return ""
    most = 8
    return (", ".join(known[:most]) + (", …" if len(known) > most else "")) or "none"
