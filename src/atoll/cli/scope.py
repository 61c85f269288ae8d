"""`atoll scope`: what an expression of the scope language means."""

from __future__ import annotations

from typing import Any, NoReturn
from urllib.parse import quote

import click

from atoll.cli.output import data_console, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb, write_lines
from atoll.errors import AtollError


class _Verbs(click.Group):
    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_lines(formatter, "Example", ["atoll scope explain '{compute: paris & lyon, image: nice}'"])


@click.group("scope", cls=_Verbs)
def command() -> None:
    """Find out what a scope means.

    A scope says which sites a request is about. Clients send it as the header X-Scope, in the URL, or by `openstack --os-scope`.
    """


@verb("explain", "atoll scope explain '{compute: paris || lyon}'\natoll scope explain '{around: paris, 20ms}' --site nice --json")
@click.option("--site", metavar="SITE", shell_complete=complete_site, help="Whose gateway is asked; without it, the cloud's first site's.")
@json_option
@click.argument("scope")
@click.pass_obj
def explain(session: Session, scope: str, site: str | None, *, as_json: bool) -> None:
    """Say what SCOPE would do now: which service's requests go where, and in what order.

    Nothing is changed. A mistake is pointed at.
    """
    from atoll.gateway.scope.model import ScopeError
    from atoll.gateway.scope.parser import parse
    from atoll.site.gateway_client import ask

    try:
        parse(scope)  # no site is needed to see that
    except ScopeError as error:
        _point_at(error)
    found = ask(session.state, site, "GET", f"/scope?text={quote(scope, safe='')}")
    if "invalid" in found:
        _point_at(ScopeError(scope, found["invalid"]["column"], found["invalid"]["what"]))
    if as_json:
        print_json(found)
    else:
        _print(found)


command.add_command(explain)


def _point_at(error: Any) -> NoReturn:  # noqa: ANN401, RUF100 - a ScopeError, which is imported late
    raise AtollError("scope.invalid", f"{error.message}\n{error.pointer()}") from None


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("SERVICE", no_wrap=True)
    table.add_column("")
    for service, plan in found["services"].items():
        table.add_row(service, plan["says"])
    data_console().print(table)
    for site, seen in found["sites"].items():
        if not seen["reachable"]:
            click.echo(f"{site} can't be reached from {found['here']} now")
