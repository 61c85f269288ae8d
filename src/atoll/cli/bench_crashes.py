"""`atoll bench crashes`."""

from __future__ import annotations

import json
import os
import sys

import click

from atoll.cli.experiment import client_environment, say
from atoll.cli.verb import json_option, verb

_COUNT = click.IntRange(min=0)


@verb("crashes", "atoll bench crashes --workflow boot\natoll bench crashes --sample 20 --seed 7 --json")
@click.option("--workflow", "workflows", multiple=True, help="Which; all of them by default.")
@click.option("--sample", type=_COUNT, default=0, show_default=True, help="Points to try, of all workflows; 0: all points of each.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample.")
@click.option("--only", default="", help="Points whose name has this in it.")
@click.option("--again", type=_COUNT, default=0, show_default=True, help="Second deaths to try after each, while the site recovers.")
@json_option
def crashes(*, as_json: bool, workflows: tuple[str, ...], sample: int, seed: int, only: str, again: int) -> int:  # noqa: PLR0913
    """Kill a process of a site at each point of a workflow, and check that nothing comes of it.

    Points are: before and after each commit, each message sent or executed, each request sent or answered. The supervisor starts the
    process again, the client asks again for what was not acknowledged. It ends with exit code 1 if anything acknowledged is lost, is
    there twice, belongs to nobody, or stays unfinished. With --json, one JSON object for each trial is a line.
    """
    from atoll.bench.crashes.experiment import Options, run
    from atoll.bench.crashes.workflow import WORKFLOWS
    from atoll.bench.measure import failed
    from atoll.bench.workspace import workspace

    unknown = sorted(set(workflows) - set(WORKFLOWS))
    if unknown:
        raise click.BadParameter(f"expected some of {', '.join(WORKFLOWS)}, got {unknown[0]}", param_hint="--workflow")
    options = Options(workflows or tuple(WORKFLOWS), sample, seed, only, again)
    trials, reached, bad = 0, 0, 0
    with workspace(say) as root:
        for trial in run(options, root, client_environment(os.environ), say):
            trials, reached, bad = trials + 1, reached + bool(trial.deaths), bad + bool(trial.violations)
            if as_json:
                print(json.dumps(trial.to_json()))
            elif trial.violations:
                for line in trial.to_json()["violations"]:
                    click.echo(f"{trial.workflow}: {'; '.join(map(str, trial.planned)) or 'no death'}: {line}")
            sys.stdout.flush()
    if not as_json:
        click.echo(f"{trials} trials, {reached} with a death, {bad} not as they should be")
    if bad:
        raise failed(f"{bad} of {trials} trials are not as they should be", f"the same again: --seed {seed}")
    return 0
