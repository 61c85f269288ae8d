"""Functions that all commands of `atoll bench` share."""

from __future__ import annotations

from collections.abc import Mapping

import click

_LEADING_ASTRAY = ("OS_", "ATOLL_", "RABBITMQ_", "MYSQL_", "GUNICORN_")


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the user's environment without variables that concern a cloud, a broker or a database, for an experiment's processes."""
    return {name: value for name, value in environment.items() if not name.startswith(_LEADING_ASTRAY)}


def say(text: str) -> None:
    """Print a message about progress on standard error."""
    click.echo(f"bench: {text} …", err=True)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Parse the value of `--sites`, and return the numbers of sites.

    Raises:
        click.BadParameter: the text is not a list of numbers separated by commas.
    """
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(f"expected numbers of sites such as 1,5,10, got {text}", param_hint="--sites")
    return sizes
