"""`atoll env`: prints a site's credentials for a shell."""

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

    Every OpenStack client understands these variables. Without SITE, they are those of the cloud's first site; for a compute site,
    those of its control site. Conflicting variables are unset. In a topology, each site has a network of its own, which only
    `atoll shell` and `atoll exec` enter; both set these variables too.
    """
    from atoll.site.clients import CONTRADICTING, exports
    from atoll.site.sites import applied_cloud, site_settings

    session.state.check()
    settings = site_settings(session.state, site)
    variables = exports(settings)
    if as_json:
        print_json(variables)
        return
    if site not in (None, settings.site):
        click.echo(f"# {site} is a compute site of {settings.site}: these are the credentials of the administrator of {settings.site}.")
    cloud = applied_cloud(session.state)
    if cloud is not None and cloud.topology is not None:
        name = site or settings.site
        click.echo(
            session.spell(f"# {name} has a network of its own: only `atoll shell {name}` and `atoll exec {name}` reach this address.")
        )
    click.echo(f"unset {' '.join(CONTRADICTING)}")
    for name, value in variables.items():
        click.echo(f"export {name}={_quote(value)}")


def _quote(value: str) -> str:
    return "'" + value.replace("'", "'\"'\"'") + "'"
