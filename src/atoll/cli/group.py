"""The top level of the command line: global options, and the modules of the verbs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

import atoll
from atoll.cli.session import Session
from atoll.cli.verb import Group

VERBS = {
    "up": "atoll.cli.up",
    "down": "atoll.cli.down",
    "destroy": "atoll.cli.destroy",
    "unit": "atoll.cli.unit",
    "status": "atoll.cli.status",
    "logs": "atoll.cli.logs",
    "env": "atoll.cli.env",
    "openstack": "atoll.cli.openstack",
    "exec": "atoll.cli.exec",
    "shell": "atoll.cli.shell",
    "console": "atoll.cli.console",
    "site": "atoll.cli.site",
    "database": "atoll.cli.database",
    "mesh": "atoll.cli.mesh",
    "scope": "atoll.cli.scope",
    "conflicts": "atoll.cli.conflicts",
    "pending": "atoll.cli.pending",
    "topology": "atoll.cli.topology",
    "wan": "atoll.cli.wan",
    "image": "atoll.cli.image",
    "cloudlet": "atoll.cli.cloudlet",
    "trace": "atoll.cli.trace",
    "plan": "atoll.cli.plan",
    "bench": "atoll.cli.bench",
    "experiment": "atoll.cli.experiments",
    "tempest-conf": "atoll.cli.tempest_conf",
    "version": "atoll.cli.version",
    "completion": "atoll.cli.completion",
}
"""The module of each verb, whose attribute `command` is the verb, in the order of the help page."""

EXIT_CODES = {
    0: "done",
    1: "an expected failure, reported in one line as `error: …`, usually with a `hint: …`",
    2: "the command line is not valid",
    70: "a bug in atoll; --traceback shows where",
    130: "interrupted by Ctrl-C",
}


class Verbs(Group):
    """A group that imports the module of a verb only when the verb is used or listed."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the verbs, in the order of `VERBS`."""
        return list(VERBS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a verb; `None` if it does not exist."""
        if name not in VERBS:
            return None
        command = import_module(VERBS[name]).command
        assert isinstance(command, click.Command)
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example and the exit codes."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES.items()])


def _remember(ctx: click.Context, name: str, value: object) -> None:
    setattr(ctx.ensure_object(Session), name, value)


@click.group(cls=Verbs, example="atoll up\natoll openstack server list", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ATOLL_STATE",
    metavar="DIR",
    help="The directory with the cloud's files. [env: ATOLL_STATE; default: $XDG_STATE_HOME/atoll]",
)
@click.option("--traceback", is_flag=True, help="Show Python's traceback of an error.")
@click.version_option(atoll.__version__, message="atoll %(version)s")
@click.pass_context
def cli(ctx: click.Context, state: Path | None, *, traceback: bool) -> None:
    """One OpenStack cloud out of many small sites."""
    session = ctx.ensure_object(Session)
    session.directory = state.absolute() if state else None
    session.traceback = traceback
