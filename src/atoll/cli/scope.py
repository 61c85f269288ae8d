"""`atoll scope`: explains expressions of the scope language."""

from __future__ import annotations

from typing import Any, NoReturn

import click

from atoll.cli.output import data_console, new_table, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, group, json_option, verb
from atoll.errors import AtollError


@group("scope", "atoll scope explain '{compute: paris & lyon, image: nice}'")
def command() -> None:
    """Explain expressions of the scope language.

    A scope names the sites that a request concerns. Clients send it as the header X-Scope, in the URL, or by `openstack --os-scope`.
    """


@verb("explain", "atoll scope explain '{compute: paris || lyon}'\natoll scope explain '{around: paris, 20ms}' --site nice --json")
@click.option("--site", metavar="SITE", shell_complete=complete_site, help="The site whose gateway to ask. [default: the first]")
@json_option
@click.argument("scope")
@click.pass_obj
def explain(session: Session, scope: str, site: str | None, *, as_json: bool) -> None:
    """Print, for each service, the sites to which requests with SCOPE would go, in their order.

    The command changes nothing. If SCOPE is wrong, the error shows the position.
    """
    from atoll.gateway.scope.model import ScopeError
    from atoll.gateway.scope.parser import parse
    from atoll.site.gateway_client import ask

    try:
        parse(scope)  # syntax errors need no site
    except ScopeError as error:
        _point_at(error)
    found = ask(session.state, site, "scope", text=scope)
    if "invalid" in found:
        _point_at(ScopeError(scope, found["invalid"]["column"], found["invalid"]["what"]))
    if as_json:
        print_json(found)
    else:
        _print(found)


command.add_command(explain)


def _point_at(error: Any) -> NoReturn:  # a ScopeError, which is imported late
    raise AtollError("scope.invalid", f"{error.message}\n{error.pointer()}") from None


def _print(found: dict[str, Any]) -> None:
    table = new_table("SERVICE", "", wrapped=("",))
    for service, plan in found["services"].items():
        table.add_row(service, plan["says"])
    data_console().print(table)
    for site, seen in found["sites"].items():
        if not seen["reachable"]:
            click.echo(f"{site} can't be reached from {found['here']} at present")
