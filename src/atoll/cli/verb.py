"""Declaration of verbs and groups of verbs: click commands whose help ends with an example."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


class Verb(click.Command):
    """A command whose help ends with an example, printed unchanged.

    Args:
        example: one or more lines, each a command.
    """

    def __init__(self, *args: Any, example: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section with the example."""
        write_lines(formatter, "Example", self.example.splitlines())
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group whose help shows the whole first sentence of each of its commands, and ends with an example.

    Args:
        example: see `Verb`.
    """

    def __init__(self, *args: Any, example: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.example = example

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section with the commands; sentences that do not fit in one line are wrapped, not cut off as click does."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(sys.maxsize)) for name, command in commands if command is not None])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section with the example."""
        write_lines(formatter, "Example", self.example.splitlines())
        super().format_epilog(ctx, formatter)


class Finite(click.FloatRange):
    """A finite number within bounds. click itself accepts `nan` within any bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number that a text names."""
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


def write_lines(formatter: click.HelpFormatter, title: str, lines: list[str]) -> None:
    """Write a section of a help page whose lines are not wrapped."""
    with formatter.section(title):
        for line in lines:
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def verb(
    name: str,
    example: str,
    cls: type[Verb] = Verb,
    **options: Any,
) -> Callable[[Callable[..., Any]], Verb]:
    """Declare a verb; the function's docstring is its help.

    Args:
        name: the verb's name on the command line.
        example: see `Verb`.
        cls: the class of the command.
        options: options of `click.command`.
    """
    declare: Callable[[Callable[..., Any]], Verb] = click.command(name, cls, example=example, **options)
    return declare


def group(name: str, example: str, cls: type[Group] = Group) -> Callable[[Callable[..., Any]], Group]:
    """Declare a group of verbs; the function's docstring is its help.

    Args:
        name: the group's name on the command line.
        example: see `Verb`.
        cls: the class of the group.
    """
    declare: Callable[[Callable[..., Any]], Group] = click.group(name, cls, example=example)
    return declare


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def complete_site(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return completions for the name of a site. They are names of directories, because reading the cloud would take many imports."""
    chosen = ctx.find_root().params.get("state")
    if chosen is None:
        from platformdirs import user_state_path

        chosen = user_state_path("atoll")
    names = sorted(path.parent.name for path in (Path(chosen) / "sites").glob("[a-z]*/settings.json"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
