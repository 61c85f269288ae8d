"""`atoll completion`: prints the script for completion in a shell."""

from __future__ import annotations

import os
from pathlib import Path

import click

from atoll.cli.verb import verb

SHELLS = ("bash", "zsh", "fish")


@verb("completion", 'eval "$(atoll completion bash)"\natoll completion fish > ~/.config/fish/completions/atoll.fish')
@click.argument("shell", required=False, type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str | None) -> None:
    """Print a completion script for your shell.

    Without an argument, the script is for the shell that $SHELL names.
    """
    from click.shell_completion import get_completion_class

    own = Path(os.environ.get("SHELL", "")).name
    chosen = shell or (own if own in SHELLS else "bash")
    cls = get_completion_class(chosen)
    assert cls is not None  # click has all of `SHELLS`
    click.echo(cls(ctx.find_root().command, {}, "atoll", "_ATOLL_COMPLETE").source())
