"""The option `--database` of experiments whose sites can have different database engines."""

from __future__ import annotations

import click

PLACES = ("sqlite", "start:redis", "start:mariadb", "start:postgresql")
"""The places of databases that an experiment can prepare alone: SQLite, and each server that a site can start."""

database_option = click.option(
    "--database", type=click.Choice(PLACES), default=PLACES[0], show_default=True, help="Place of each site's databases."
)
"""The option `--database`, a decorator."""
