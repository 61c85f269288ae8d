"""The generated reference is complete and up to date. If a page differs, run .venv/bin/python scripts/reference."""

import inspect
import re
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import click
import pytest

from atoll.cli.group import cli
from atoll.cloud.model import Cloud, Rabbit, ServicePlan, Site
from atoll.errors import REGISTRY

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    loader = SourceFileLoader("reference", str(ROOT / "scripts" / "reference"))
    spec = spec_from_loader("reference", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    pages: dict[str, str] = module.pages()
    return pages


GENERATED = (
    "errors.md",
    "cli.md",
    "cloud.md",
    "experiment.md",
    "lists.md",
    "plan.md",
    "testbed.md",
    "references.md",
    "resources.md",
    "sharing.md",
    "unique-names.md",
    "upstream.md",
)


def test_every_generated_page_is_compared(generated):
    assert set(GENERATED) == generated.keys()


@pytest.mark.parametrize("name", GENERATED)
def test_page_is_what_the_code_says(name, generated):
    assert page(name) == generated[name], "run .venv/bin/python scripts/reference"


@pytest.mark.parametrize("code", REGISTRY)
def test_error_code_is_documented(code):
    assert f"| `{code}` |" in page("errors.md")


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{path} {name}")


COMMANDS = dict(commands(cli, "atoll"))


@pytest.mark.parametrize("path", COMMANDS)
def test_command_and_its_options_are_documented(path):
    section = re.search(rf"^## {path}\n(.*?)(?=^## |\Z)", page("cli.md"), re.MULTILINE | re.DOTALL)
    assert section, f"{path} is missing"
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            assert all(option in section[1] for option in parameter.opts), parameter.name


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)])
def test_command_has_help_and_an_example(path):
    assert COMMANDS[path].help
    assert "atoll " in getattr(COMMANDS[path], "example", "")


@pytest.mark.parametrize(
    ("model", "field"), [(model, name) for model in (Cloud, Site, ServicePlan, Rabbit) for name in model.model_fields], ids=str
)
def test_field_is_documented(model, field):
    assert f"| `{field}` |" in page("cloud.md")
    # Python 3.13 removes the indentation of docstrings; older versions keep it.
    assert re.search(rf"^    {field}: \w", inspect.cleandoc(model.__doc__ or ""), re.MULTILINE), "the docstring must explain the field"
