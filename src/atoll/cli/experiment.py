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
