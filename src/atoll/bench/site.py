"""`atoll bench site`: measures the time, memory and processor time that the sites of a cloud cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.bench import workload
from atoll.bench.command import atoll, await_end, begin, failure, pids
from atoll.bench.failure import failed
from atoll.bench.leaks import count_leaks
from atoll.bench.processes import memory_mb, processor_percent
from atoll.bench.progress import Say
from atoll.bench.samples import median
from atoll.bench.target import Target, await_answers
from atoll.bench.workspace import HOST, Workspace, free_ports
from atoll.cloud import Cloud, dump_cloud
from atoll.cloud.databases import Database
from atoll.runtime.client import connect
from atoll.services import SERVICES, template_key
from atoll.site.sites import site_settings
from atoll.site.state import State, default_cache

DURABILITIES = ("full", "relaxed")
"""The values of `durability` that are compared; each is also the name of its site."""

FINE_POLL_S = 0.01
"""Seconds between two requests for a server's status where differences of a few milliseconds are measured."""

UP_TIMEOUT_S = 600.0
"""Seconds to wait for a site's answers; enough for a start without schema templates on a busy machine."""


@dataclass(frozen=True)
class SiteOptions:
    """The size of the experiment.

    Attributes:
        sites: the number of sites, which start one after the other.
        servers: the number of servers that are booted for `boots_per_min`.
        at_once: the number of these servers that boot at the same time.
        boots: the number of single boots that are measured.
        settle_s: seconds to rest before memory and idle processor time are measured.
        idle_s: seconds of the measurement of idle processor time.
        fresh_templates: whether to measure a start without schema templates too, in the experiment's own cache directory.
    """

    sites: int = 1
    servers: int = 30
    at_once: int = 10
    boots: int = 7
    settle_s: float = 20.0
    idle_s: float = 30.0
    fresh_templates: bool = False


class Sites:
    """The experiment's own cloud, driven by the command line as a user would.

    Args:
        root: the experiment's own directory.
        count: the greatest number of sites.
        environment: the environment of the commands.
        database: the place of each site's databases; SQLite by default.
    """

    def __init__(self, root: Path, count: int, environment: Mapping[str, str], database: Database | None = None) -> None:
        self._database = database or Database()
        self.state = State(root / "state")
        self._file = root / "cloud.yaml"
        self._log = root / "commands.log"
        self._ports = free_ports(count + len(DURABILITIES))
        self._environment = dict(environment)

    def up(self, count: int, others: Sequence[str] = ()) -> float:
        """Start the first `count` sites; all but the last may be up already.

        Args:
            count: the number of sites.
            others: names of further sites, each from `DURABILITIES`, which is also the site's durability.

        Returns:
            Seconds from the command to the first correct answer of the last site's five APIs.

        Raises:
            AtollError: `bench.failed`: the experiment could not be done.
        """
        names = [*(f"site-{index + 1}" for index in range(count)), *others]
        ports = [*self._ports[:count], *self._ports[-len(DURABILITIES) :]]
        sites = [
            {
                "name": name,
                "host": HOST,
                "port": port,
                "compute": "fake",
                "database": self._database,
                **({"durability": name} if name in others else {}),
            }
            for name, port in zip(names, ports, strict=False)
        ]
        self._file.write_text(dump_cloud(Cloud.model_validate({"sites": sites})), encoding="utf-8")
        begun = time.monotonic()
        command = begin(self.state, self._log, self._environment, "up", str(self._file))

        def alive() -> None:
            if command.poll() not in (None, 0):
                raise failure(command, self._log)

        for name in others or [names[-1]]:
            self._await_settings(name, alive)
            await_answers(self.named(name), alive, UP_TIMEOUT_S)
        seconds = time.monotonic() - begun
        await_end(command, self._log)
        return seconds

    def destroy(self) -> None:
        """Stop and delete everything, including fork servers and supervisor."""
        atoll(self.state, self._log, self._environment, "destroy", "--yes")

    def stop(self) -> None:
        """Stop the services of the sites, but not the fork servers and the supervisor."""
        control = connect(self.state.root)
        if control is None:
            raise failed("the supervisor has ended")
        names = [status.name for status in control.status() if status.kind == "service"]
        for _event in control.stop(names):
            pass

    def target(self, number: int = 1) -> Target:
        """Return a site by its number, counted from 1."""
        return self.named(f"site-{number}")

    def named(self, name: str) -> Target:
        """Return a site by its name."""
        settings = site_settings(self.state, name)
        return Target(settings.url("identity", "/v3"), settings.secrets["admin"], settings.site, self.pids)

    def pids(self) -> list[int]:
        """Return the ids of the supervisor and all its descendants: fork servers and services."""
        return pids(self.state)

    def _await_settings(self, name: str, alive: Any) -> None:
        while not (self.state.site(name) / "settings.json").exists() or not self.state.cloud_file.exists():
            alive()
            time.sleep(0.02)


def run(options: SiteOptions, work: Workspace) -> dict[str, Any]:
    """Run the whole experiment; no other cloud may run on the machine meanwhile.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        The measured values, by the names of `report.KEYS`.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    own_cache = {"XDG_CACHE_HOME": str(work.root / "cache")} if options.fresh_templates else {}
    sites = Sites(work.root, options.sites, {**work.environment, **own_cache})
    numbers: dict[str, Any] = {}
    if options.fresh_templates or not _templates_exist():
        work.say("a first site, with no schema templates")
        numbers["first_site_no_template_s"] = round(sites.up(1), 3)
        sites.destroy()
    work.say("a first site, fork servers cold")
    numbers["first_site_s"] = round(sites.up(1), 3)
    sites.stop()
    work.say("the same site, fork servers warm")
    numbers["first_site_warm_s"] = round(sites.up(1), 3)
    numbers |= under_load(sites.target(), options, work.say)
    time.sleep(options.settle_s)
    alone_mb = memory_mb(sites.pids())
    further = _further_sites(sites, options, work.say)
    if further:
        numbers["next_site_s"] = median(further)
        numbers["samples"]["next_site_s"] = [round(seconds, 3) for seconds in further]
    numbers |= at_rest(sites.target(), options, work.say)
    if further:
        numbers["next_site_mb"] = round((numbers["total_pss_mb"] - alone_mb) / len(further), 1)
    durability = _durability(sites, options, work.say)
    samples = {**numbers["samples"], **durability.pop("samples")}
    return {**numbers, **durability, "samples": samples}


def _templates_exist() -> bool:
    directory = default_cache() / "templates" / template_key()
    return all((directory / service.name).is_dir() for service in SERVICES)


def _further_sites(sites: Sites, options: SiteOptions, say: Say) -> list[float]:
    samples = []
    for number in range(2, options.sites + 1):
        say(f"site {number} of {options.sites}")
        samples.append(sites.up(number))
        # A site reaches its usual memory only with its first server.
        api = sites.target(number).api()
        api.sign_in()
        workload.boot_one(api, workload.prepare(api), 1)
    return samples


def _durability(sites: Sites, options: SiteOptions, say: Say) -> dict[str, Any]:
    """Boot servers alternately on a site with `durability: full` and on one with `relaxed`, so that other load affects both alike."""
    say("two more sites, with durability full and relaxed")
    sites.up(options.sites, DURABILITIES)
    apis = {name: sites.named(name).api() for name in DURABILITIES}
    for api in apis.values():
        api.sign_in()
    tenancies = {name: workload.prepare(api) for name, api in apis.items()}
    samples: dict[str, list[float]] = {name: [] for name in DURABILITIES}
    say(f"{options.boots} servers on each, in turns")
    for turn in range(options.boots + 1):
        for name in DURABILITIES if turn % 2 else reversed(DURABILITIES):
            server, seconds = workload.boot(apis[name], tenancies[name], f"{name}-{turn}", poll_s=FINE_POLL_S)
            workload.delete(apis[name], [server])
            samples[name].append(seconds)
    counted = {f"boot_{name}_s": each[1:] for name, each in samples.items()}  # the first fills caches and opens connections
    medians = {name: statistics.median(each) for name, each in counted.items()}
    return {
        **{name: round(each, 3) for name, each in medians.items()},
        "durability_ratio": round(medians["boot_full_s"] / medians["boot_relaxed_s"], 3),
        "samples": {name: [round(seconds, 3) for seconds in each] for name, each in counted.items()},
    }


def under_load(target: Target, options: SiteOptions, say: Say) -> dict[str, Any]:
    """Boot servers, one by one and many at the same time, delete them, and check that nothing is left.

    Raises:
        AtollError: `bench.failed`: an API gave an unexpected answer, or a resource leaked.
    """
    api = target.api()
    api.sign_in()
    tenancy = workload.prepare(api)
    say(f"{options.boots} servers, one after the other")
    single = workload.boot_one(api, tenancy, options.boots)
    say(f"{options.servers} servers, {options.at_once} at a time")
    seconds = workload.boot_many(api, tenancy, options.servers, options.at_once)
    say("deleting the servers")
    workload.delete_all(api, options.at_once)
    found = count_leaks(api)
    if found.any:
        raise failed(f"resources are left after everything was deleted: {found}")
    return {
        "boot_one_s": median(single),
        "boots_per_min": round(60 * options.servers / seconds, 2),
        "samples": {"boot_one_s": [round(each, 3) for each in single]},
    }


def at_rest(target: Target, options: SiteOptions, say: Say) -> dict[str, Any]:
    """Return memory and idle processor time for each site, after the deployment has settled."""
    say(f"resting for {options.settle_s:.0f} s")
    time.sleep(options.settle_s)
    total = memory_mb(target.pids())
    say(f"measuring the idle site for {options.idle_s:.0f} s")
    idle = processor_percent(target.pids, options.idle_s)
    return {
        "site_pss_mb": round(total / options.sites, 1),
        "total_pss_mb": total,
        "processes": len(target.pids()),
        "idle_cpu_percent": round(idle / options.sites, 2),
    }
