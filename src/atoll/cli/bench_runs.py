"""Runs an experiment of `atoll bench` in a workspace of its own, and prints its report."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.table import Table

    from atoll.bench.workspace import Workspace

_Options = TypeVar("_Options")
_Report = TypeVar("_Report")

_FOREIGN_PREFIXES = ("OS_", "ATOLL_", "RABBITMQ_", "MYSQL_", "GUNICORN_")


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for an experiment's processes: the user's own, without variables of a cloud, a broker or a database."""
    return {name: value for name, value in environment.items() if not name.startswith(_FOREIGN_PREFIXES)}


def say(text: str) -> None:
    """Print a message about progress on standard error."""
    click.echo(f"bench: {text} …", err=True)


def measure(run: Callable[[_Options, Workspace], _Report], options: _Options) -> _Report:
    """Run an experiment in a workspace of its own, and return its report.

    Args:
        run: the experiment's function.
        options: the size and the conditions of the experiment.
    """
    from atoll.bench.workspace import workspace

    with workspace(client_environment(os.environ), say) as work:
        return run(options, work)


def print_report(report: Mapping[str, Any], table: Callable[[], Table], *, as_json: bool) -> None:
    """Print a report on standard output: as one JSON object in one line, or as a table.

    Args:
        report: the report.
        table: returns the table of the report.
        as_json: whether to print JSON.
    """
    if as_json:
        print(json.dumps(report))
        return
    from atoll.cli.output import data_console

    data_console().print(table())


def print_outcome(outcome: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an outcome on standard output: as one JSON object in one line, or each value, and each element of a list, in a line of its own.

    Args:
        outcome: the outcome, ready for `json.dumps`.
        as_json: whether to print JSON.
    """
    if as_json:
        print(json.dumps(outcome))
    else:
        for name, value in outcome.items():
            for each in value if isinstance(value, list) else [value]:
                click.echo(f"{name:15} {each}")
    sys.stdout.flush()


def parse_sizes(text: str) -> tuple[int, ...]:
    """Parse the value of `--sites`, and return the numbers of sites.

    Raises:
        click.BadParameter: the text is not a list of numbers with commas.
    """
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(f"expected numbers of sites such as 1,5,10, got {text}", param_hint="--sites")
    return sizes
