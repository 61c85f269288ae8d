"""How a verb is declared: a click command whose help shows an example."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


class Verb(click.Command):
    """A command whose help ends with an example, printed as it is.

    Args:
        example: one or more lines, each a command.
    """

    def __init__(self, *args: Any, example: str = "", **options: Any) -> None:  # noqa: ANN401, RUF100
        super().__init__(*args, **options)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        write_lines(formatter, "Example", self.example.splitlines())
        super().format_epilog(ctx, formatter)


def write_lines(formatter: click.HelpFormatter, title: str, lines: list[str]) -> None:
    """Write a section of a help page whose lines are not to be wrapped."""
    with formatter.section(title):
        for line in lines:
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def verb(
    name: str,
    example: str,
    cls: type[Verb] = Verb,
    **options: Any,  # noqa: ANN401, RUF100
) -> Callable[[Callable[..., Any]], Verb]:
    """Declare a verb; the function's docstring is its help.

    Args:
        name: as typed.
        example: see `Verb`.
        cls: the class of the command.
        options: click's.
    """
    declare: Callable[[Callable[..., Any]], Verb] = click.command(name, cls, example=example, **options)
    return declare


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def complete_site(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the sites that exist, for the shell: from their directories, without importing much."""
    chosen = ctx.find_root().params.get("state")
    if chosen is None:
        from platformdirs import user_state_path

        chosen = user_state_path("atoll")
    names = sorted(path.parent.name for path in (Path(chosen) / "sites").glob("[a-z]*/settings.json"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
