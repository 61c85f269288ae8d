"""What all experiments of `atoll bench` share."""

from __future__ import annotations

from collections.abc import Mapping

import click

_LEADING_ASTRAY = ("OS_", "ATOLL_", "RABBITMQ_", "MYSQL_", "GUNICORN_")


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of an experiment's processes: a person's own, without what leads to a cloud or to a configuration of theirs."""
    return {name: value for name, value in environment.items() if not name.startswith(_LEADING_ASTRAY)}


def say(text: str) -> None:
    """Tell a person what is going on."""
    click.echo(f"bench: {text} …", err=True)


def parse_sizes(text: str) -> tuple[int, ...]:
    """The value of `--sites`: numbers of sites, with commas between them.

    Raises:
        click.BadParameter: it is something else.
    """
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(f"expected numbers of sites such as 1,5,10, got {text}", param_hint="--sites")
    return sizes
