"""The cloud's YAML: read with errors that name the file, the line and what was expected; written back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from atoll.cloud import topology
from atoll.cloud.model import Cloud, Rabbit, ServicePlan, Site
from atoll.cloud.trust import Homed
from atoll.errors import AtollError

_NESTED: dict[str, type[BaseModel]] = {"sites": Site, "services": ServicePlan, "rabbit": Rabbit, "homed": Homed, **topology.NESTED}
_OWN_TEXT = {
    "services_needed",
    "name_reserved",
    "host_unspecified",
    "options_invalid",
    "network_services_invalid",
    "url_invalid",
    "cloud_inconsistent",
    "homed_invalid",
}
_MAPPINGS: dict[type[BaseModel], str] = {
    Cloud: "a mapping with `sites`",
    Site: "a mapping with at least `name`",
    ServicePlan: "a mapping such as {nova: false}",
    Rabbit: "a mapping with at least `url`",
    Homed: "a mapping such as {domain: 2f0c…, sites: [paris]}",
    **topology.MAPPINGS,
}
_ACCOUNT = re.compile(r"//.*@")
"""The part of a URL that may hold a password."""

_MAX_BYTES = 1_000_000

_Path = Sequence[str | int]


def read_cloud(path: Path, known: Mapping[str, Site] | None = None) -> Cloud:
    """Read a cloud from a YAML file.

    Args:
        path: the file.
        known: sites that exist, by name; their ports and addresses are kept where the file names none.

    Raises:
        AtollError: `cloud.not_found` if there is no such file, `cloud.invalid` if it can't be read or doesn't validate.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise AtollError("cloud.not_found", f"{path}: no such file", "give the path of a cloud's YAML file") from None
    except OSError as error:
        raise AtollError("cloud.invalid", f"{path}: {(error.strerror or str(error)).lower()}: expected a file") from None
    if len(content) > _MAX_BYTES:
        raise AtollError("cloud.invalid", f"{path}: expected at most {_MAX_BYTES} bytes")
    return parse_cloud(content, str(path), known, path.parent)


def parse_cloud(content: str | bytes, source: str, known: Mapping[str, Site] | None = None, directory: Path | None = None) -> Cloud:
    """Make a cloud of a YAML text.

    Args:
        content: the text.
        source: what to call it in errors, best its file name.
        known: as in `read_cloud`.
        directory: what paths in it are relative to; default: the current one.

    Raises:
        AtollError: `cloud.invalid`, with one line: where, what was expected, what was found.
    """
    node, data = _load(content, source)
    try:
        return Cloud.model_validate(data, context={"known": known or {}, "directory": directory or Path()})
    except ValidationError as error:
        found = sorted(_explain(node, detail) for detail in error.errors(include_url=False))
    line, text = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise AtollError("cloud.invalid", f"{source}:{line}: {text}{more}", "correct the file and run the command again")


def dump_cloud(cloud: Cloud) -> str:
    """The YAML of a cloud, with every port spelled out so that it stays what it is."""
    return yaml.safe_dump(to_data(cloud), sort_keys=False)


def to_data(cloud: Cloud) -> dict[str, Any]:
    """What the YAML of a cloud says, as plain data."""
    # A port may be one that the cloud gave, so it is never left out as a default.
    data: dict[str, Any] = {"name": cloud.name, "sites": [site.model_dump(mode="json", exclude_defaults=True) for site in cloud.sites]}
    if cloud.topology is not None:
        data["topology"] = cloud.topology.model_dump(mode="json", exclude_defaults=True)
    data |= {
        name: value for name in ("trust", "homed", "lists") if (value := cloud.model_dump(mode="json", exclude_defaults=True).get(name))
    }
    return data


def make_cloud(data: Mapping[str, Any], known: Mapping[str, Site]) -> Cloud:
    """Make a cloud of plain data that no file has said.

    Args:
        data: as of `to_data`.
        known: as in `read_cloud`.

    Raises:
        AtollError: `cloud.invalid`, with one line: where in the data, what was expected, what was found.
    """
    try:
        return Cloud.model_validate(data, context={"known": known})
    except ValidationError as error:
        node = yaml.compose(yaml.safe_dump(data)) or yaml.MappingNode("", [])
        _number, text = min(_explain(node, detail) for detail in error.errors(include_url=False))
    raise AtollError("cloud.invalid", text)


def _load(content: str | bytes, source: str) -> tuple[yaml.Node, Any]:
    try:
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if node is None:
            text = "nothing here: expected a mapping with `sites`, such as {sites: [{name: paris}]}"
            raise AtollError("cloud.invalid", f"{source}:1: {text}")
        _refuse_duplicates(node, source, set())
        return node, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise AtollError("cloud.invalid", f"{source}:{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise AtollError("cloud.invalid", f"{source}: not a text file: expected YAML in UTF-8") from None
    except (ValueError, RecursionError) as error:  # such as the date 2026-99-99, or a thousand brackets
        raise AtollError("cloud.invalid", f"{source}: not YAML that makes sense here: {error}") from None


def _refuse_duplicates(node: yaml.Node, source: str, seen: set[int]) -> None:
    """PyYAML lets the last of two equal keys win, silently."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicates(child, source, seen)
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    line = key.start_mark.line + 1
                    text = f"a second `{key.value}` in one mapping: expected it once"
                    raise AtollError("cloud.invalid", f"{source}:{line}: {text}")
                keys.add(key.value)
            _refuse_duplicates(value, source, seen)


def _explain(root: yaml.Node, detail: ErrorDetails) -> tuple[int, str]:
    """The line of one validation error (from 1), and its text."""
    path: _Path = detail.get("ctx", {}).get("path", detail["loc"])
    model, field = _resolve(path)
    line = _line(root, path)
    where = _spell(path)
    kind = detail["type"]
    if kind == "missing" and isinstance(path[-1], str):
        return line, f"{_spell(path[:-1], end=': ')}`{path[-1]}` is missing: expected {_expected(model, field)}"
    if kind == "extra_forbidden":
        return line, f"{_spell(path[:-1], end=': ')}{_unknown_key(str(path[-1]), model)}"
    if kind == "invalid_key":
        return line, f"the key {detail['input']}: expected a text as key"
    if kind in _OWN_TEXT:
        return line, f"{where}: {detail['msg']}"
    got = _describe(detail["input"], quote=field in {"name", "host"})
    return line, f"{where + ': ' if where else ''}expected {_expected(model, field)}, got {got}"


def _resolve(path: _Path) -> tuple[type[BaseModel], str | None]:
    """The model that a location is in, and its field; None means the model itself (an item of a list, the document)."""
    model: type[BaseModel] = Cloud
    field: str | None = None
    for step in path:
        if field is not None and field not in _NESTED:
            break  # inside a value that has no model of its own
        if isinstance(step, int):
            model, field = _NESTED[field or "sites"], None
            continue
        if field is not None:
            model = _NESTED[field]
        field = step
    return model, field


def _expected(model: type[BaseModel], field: str | None) -> str:
    if field is None:
        return _MAPPINGS[model]
    info = model.model_fields.get(field)
    return (info and info.description) or "something else"


def _unknown_key(key: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    close = get_close_matches(key, known, n=1)
    meant = f" (did you mean `{close[0]}`?)" if close else ""
    return f"unknown key `{key}`{meant}: expected one of {', '.join(known)}"


def _describe(value: object, *, quote: bool) -> str:
    """A value as YAML's author knows it; `quote` where `no` was perhaps meant as a text."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower() + (" (quote it to make it text)" if quote else "")
    if isinstance(value, str):
        return f"the text {_ACCOUNT.sub('//…@', value)[:40]!r}"
    if isinstance(value, (Mapping, list, tuple)):
        kind = "a mapping" if isinstance(value, Mapping) else "a list"
        return kind if value else f"{kind} of nothing"
    return str(value)[:40]


def _spell(path: _Path, end: str = "") -> str:
    """`("sites", 0, "port")` as `sites[0].port`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{step}"
    return text + end if text else ""


def _line(node: yaml.Node, path: _Path) -> int:
    """The line (from 1) of what a location names, or of the innermost thing around it that exists."""
    line = int(node.start_mark.line) + 1
    for step in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = int(node.start_mark.line) + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        pair = next(((key, value) for key, value in pairs if key.value == step), None)
        if pair is None:
            return line
        line, node = int(pair[0].start_mark.line) + 1, pair[1]
    return line
