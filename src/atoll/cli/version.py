"""`atoll version`: prints versions."""

from __future__ import annotations

import click

from atoll.cli.output import print_json
from atoll.cli.verb import json_option, verb


@verb("version", "atoll version --json")
@json_option
def command(*, as_json: bool) -> None:
    """Print the versions of Atoll, OpenStack and the client."""
    from atoll.site.versions import all_versions

    versions = all_versions()
    if as_json:
        print_json(versions)
        return
    width = max(map(len, versions))
    for name, version in versions.items():
        click.echo(f"{name:{width}}  {version}")
