"""`atoll bench crashes`: kills processes at every point of a workflow."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING

import click

from atoll.cli.bench_runs import client_environment, say
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from atoll.bench.crashes.trial import Trial

_COUNT = click.IntRange(min=0)


class _Range(click.ParamType[tuple[int, int | None]]):
    """A range of numbers from 1, as `56-110` or `56-`, both ends included; the value is both, and `None` for no end."""

    name = "range"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int | None]:
        found = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)?", str(value))
        first, last = (int(number) if number else None for number in found.groups()) if found else (None, None)
        if first is None or (last is not None and last < first):
            self.fail(f"expected a range such as 56-110, or 56- up to the last, got {value!r}", param, ctx)
        return first, last


@verb("crashes", "atoll bench crashes --workflow boot --points 56-\natoll bench crashes --sample 20 --seed 7 --json")
@click.option("--workflow", "workflows", multiple=True, help="A workflow to test; by default all of them.")
@click.option(
    "--sample", type=_COUNT, default=0, show_default=True, help="Number of points to choose at random from all workflows; 0 means all."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random sample.")
@click.option("--only", default="", help="Test only points whose names contain this text.")
@click.option(
    "--again", type=_COUNT, default=0, show_default=True, help="For each point, number of trials with a second death during the recovery."
)
@click.option(
    "--points", type=_Range(), default="1-", metavar="FIRST-LAST", help="Test only the points with these numbers, such as 56-110 or 56-."
)
@click.option(
    "--together",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of points of different processes to try in one trial.",
)
@json_option
def crashes(  # noqa: PLR0913 - each is an option
    *,
    as_json: bool,
    workflows: tuple[str, ...],
    sample: int,
    seed: int,
    only: str,
    again: int,
    points: tuple[int, int | None],
    together: int,
) -> int:
    """Kill a process of a site at each point of a workflow, and check that it does no harm.

    Points are before and after each commit, each message sent or executed, each request sent or answered. The supervisor restarts the
    process, and the client repeats requests that were not acknowledged. The exit code is 1 if an acknowledged resource is lost,
    duplicated, orphaned or stays unfinished, or if a point that each run passes was never tried. With --json, each trial is one line
    with a JSON object. All points of a workflow can take hours: --points divides such a run, or continues it after an interruption, and
    with --together, a trial has several deaths; the points of a trial with violations are tried again one by one.
    """
    from atoll.bench.crashes.experiment import CrashOptions, run
    from atoll.bench.crashes.trial import untried
    from atoll.bench.crashes.workflow import NAMES
    from atoll.bench.failure import failed
    from atoll.bench.workspace import workspace

    unknown = sorted(set(workflows) - set(NAMES))
    if unknown:
        raise click.BadParameter(f"expected some of {', '.join(NAMES)}, got {unknown[0]}", param_hint="--workflow")
    options = CrashOptions(workflows or NAMES, sample, seed, only, again, *points, together)
    trials: list[Trial] = []
    with workspace(client_environment(os.environ), say) as work:
        for trial in run(options, work):
            trials.append(trial)
            _print(trial, as_json=as_json)
    reached, bad = sum(bool(trial.deaths) for trial in trials), sum(bool(trial.violations) for trial in trials)
    missed = (
        []
        if sample or only or points != (1, None)
        else [f"{name}: {point}" for name in options.workflows for point in untried(trials, name)]
    )
    for line in missed:
        say(f"never tried: {line}")
    if not as_json:
        click.echo(f"{len(trials)} trials, {reached} with a death, {bad} with violations, {len(missed)} points never tried")
    if bad or missed:
        message = f"{bad} of {len(trials)} trials left violations, and {len(missed)} points were never tried"
        raise failed(message, f"to repeat the same trials: --seed {seed}")
    return 0


def _print(trial: Trial, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(trial.to_json()))
    elif trial.violations:
        for line in trial.to_json()["violations"]:
            click.echo(f"{trial.workflow}: {'; '.join(map(str, trial.planned)) or 'no death'}: {line}")
    sys.stdout.flush()
