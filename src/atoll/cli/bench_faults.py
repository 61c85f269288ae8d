"""`atoll bench faults`: tests a cloud under faults."""

from __future__ import annotations

from pathlib import Path

import click

from atoll.cli.bench_database import database_option
from atoll.cli.bench_runs import measure, print_outcome
from atoll.cli.verb import json_option, verb


@verb("faults", "atoll bench faults --minutes 3 --seed 7\natoll bench faults --replay failed --json")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=3, show_default=True, help="Duration in minutes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random operations and faults.")
@click.option("--sites", type=click.IntRange(2, 20), default=5, show_default=True, help="Number of full sites.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the operations and findings in this directory.")
@click.option("--replay", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Repeat the run kept in this directory.")
@database_option
@json_option
def faults(  # noqa: PLR0913 - each is an option
    *, as_json: bool, minutes: float, seed: int, sites: int, keep: Path | None, replay: Path | None, database: str
) -> int:
    """Run clients at all sites while sites and links fail, and check that no acknowledged change is lost.

    Links are cut, flap and lose packets; processes, database servers and whole sites are killed; clocks jump by up to an hour. Then all
    faults are healed, and the resources at the sites are compared with the clients' own logs. The exit code is 1 if an acknowledged write
    is lost, a resource is duplicated or orphaned, sites do not converge, or a site is not healthy.
    """
    from atoll.bench.failure import failed
    from atoll.bench.faults.experiment import CLIENTS_PER_SITE, run
    from atoll.bench.faults.replay import kept_schedule
    from atoll.bench.faults.schedule import schedule

    names = tuple(f"site-{number}" for number in range(1, sites + 1))
    plan = kept_schedule(replay) if replay else schedule(seed, minutes * 60, names, CLIENTS_PER_SITE, database)
    outcome = measure(lambda plan, work: run(plan, work, keep), plan)
    print_outcome(outcome.to_json(), as_json=as_json)
    if not outcome.ok:
        counts = f"{len(outcome.violations)} violations are left, and {len(outcome.failures)} faults could not be injected or undone"
        again = f"--seed {plan.seed} --database {plan.database}"
        raise failed(counts, f"to repeat the same run: {again}; with --keep DIR, its logs and findings are kept")
    return 0
