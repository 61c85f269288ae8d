"""`atoll env`."""

from __future__ import annotations

import click

from atoll.cli.output import print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb


@verb("env", 'eval "$(atoll env paris)"')
@json_option
@click.argument("site", required=False, shell_complete=complete_site)
@click.pass_obj
def command(session: Session, site: str | None, *, as_json: bool) -> None:
    """Print shell exports for the administrator of SITE.

    Every OpenStack client understands these variables. Without SITE, it is the cloud's first; for a compute site, it is its
    control site. Some variables that would lead elsewhere are unset.
    """
    from atoll.site.clients import CONTRADICTING, exports
    from atoll.site.sites import site_settings

    session.state.check()
    settings = site_settings(session.state, site)
    variables = exports(settings)
    if as_json:
        print_json(variables)
        return
    if site not in (None, settings.site):
        click.echo(f"# {site} is a compute site of {settings.site}, whose administrator this is.")
    click.echo(f"unset {' '.join(CONTRADICTING)}")
    for name, value in variables.items():
        click.echo(f"export {name}={_quote(value)}")


def _quote(value: str) -> str:
    return "'" + value.replace("'", "'\"'\"'") + "'"
