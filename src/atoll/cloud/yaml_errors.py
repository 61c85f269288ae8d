"""YAML files that a pydantic model describes: read and validated, with errors that name the file, the line and the expected value.

The cloud's file, plans and experiments use this module. A field's `description` completes the sentence "expected …".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from atoll.errors import AtollError
from atoll.files import read_regular

_ACCOUNT = re.compile(r"//.*@")
"""The part of a URL that may contain a password."""

_MAX_BYTES = 1_000_000

_Path = Sequence[str | int]
_Root = TypeVar("_Root", bound=BaseModel)


@dataclass(frozen=True)
class Form(Generic[_Root]):
    """The form of one kind of YAML file.

    Attributes:
        root: the model of the document.
        nested: the model of each field whose value, or whose items, a model describes.
        mappings: the expected form of each model, for error messages.
        own_text: types of validation errors whose message is shown as it is, without "expected …".
        code: the code of errors in the file.
        missing: the code of the error for a file that does not exist.
        kind: the noun for the thing that the file describes, such as `cloud`.
        example: the expected form of the document, with an example.
        list_field: the field to which an index at the top of an error's path belongs.
        named: fields of `nested` that are mappings of names to models.
    """

    root: type[_Root]
    nested: Mapping[str, type[BaseModel]]
    mappings: Mapping[type[BaseModel], str]
    own_text: frozenset[str]
    code: str
    missing: str
    kind: str
    example: str
    list_field: str = "sites"
    named: frozenset[str] = field(default=frozenset())

    @property
    def noun(self) -> str:
        """The kind with its article."""
        return f"an {self.kind}" if self.kind[0] in "aeiou" else f"a {self.kind}"


def read(path: Path, form: Form[_Root], **context: Any) -> _Root:
    """Read and validate a YAML file.

    Args:
        path: the file; paths in it are relative to its directory.
        form: the form of the file.
        context: the context of the model's validators, besides `directory`.

    Raises:
        AtollError: the form's `missing`: the file does not exist; the form's code: the file can't be read, is longer than 1,000,000
            bytes, or is not valid.
    """
    return parse(_content(path, form), str(path), form, path.parent, **context)


def _content(path: Path, form: Form[Any]) -> bytes:
    try:
        content = read_regular(path, _MAX_BYTES)
    except FileNotFoundError:
        raise AtollError(form.missing, f"{path}: no such file", f"give the path of {form.noun}'s YAML file") from None
    except OSError as error:
        raise AtollError(form.code, f"{path}: {(error.strerror or str(error)).lower()}: expected a file") from None
    if len(content) > _MAX_BYTES:
        raise AtollError(form.code, f"{path}: expected at most {_MAX_BYTES} bytes")
    return content


def parse(content: str | bytes, source: str, form: Form[_Root], directory: Path | None, **context: Any) -> _Root:
    """Parse and validate the YAML text of a document.

    Args:
        content: the YAML text.
        source: the text's name in errors, such as the path of the file.
        form: the form of the text.
        directory: the directory that paths are relative to; `None` for the current one.
        context: the context of the model's validators, besides `directory`.

    Raises:
        AtollError: the form's code: the text is not valid; the message is one line with the place, the expected value and the value found.
    """
    node, data = _load(content, source, form)
    try:
        return form.root.model_validate(data, context={"directory": directory or Path(), **context})
    except ValidationError as error:
        found = sorted(explanations(node, form, error))
    line, text = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise AtollError(form.code, f"{source}:{line}: {_one_line(text)}{more}", "correct the file and run the command again")


def _one_line(text: str) -> str:
    """Return a text with escapes in place of line feeds and other characters that can't be printed, which names may contain."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def explanations(node: yaml.Node, form: Form[Any], error: ValidationError) -> list[tuple[int, str]]:
    """Return the line, counted from 1, and the text of each validation error."""
    return [_explain(node, form, detail) for detail in error.errors(include_url=False)]


def line_of(content: str, path: Sequence[str | int]) -> int:
    """Return the line, counted from 1, of the item at a path in valid YAML; if it does not exist, that of the innermost item around it.

    Args:
        content: the YAML text.
        path: the keys and indices that lead to the item.
    """
    node = yaml.compose(content, Loader=yaml.SafeLoader)
    return 1 if node is None else _line(node, tuple(path))


def spell(path: Sequence[str | int]) -> str:
    """Return a path as text: `sites[0].port` for `("sites", 0, "port")`."""
    return _spell(tuple(path))


def _load(content: str | bytes, source: str, form: Form[Any]) -> tuple[yaml.Node, Any]:
    try:
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if node is None:
            raise AtollError(form.code, f"{source}:1: the file is empty: expected {form.example}")
        _refuse_duplicates(node, source, form.code, set())
        return node, _construct(loader, node, source, form)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise AtollError(form.code, f"{source}:{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise AtollError(form.code, f"{source}: not a text file: expected YAML in UTF-8") from None
    except RecursionError:  # for instance a thousand nested brackets
        raise AtollError(form.code, f"{source}: not YAML that describes {form.noun}: lists or mappings are nested too deeply") from None


def _construct(loader: yaml.SafeLoader, node: yaml.Node, source: str, form: Form[Any]) -> Any:
    """Return the data of a node.

    Raises:
        AtollError: the form's code: Python can't represent a value, such as the date 2026-99-99 or a number of 5,000 digits.
    """
    try:
        return loader.construct_document(node)
    except (ValueError, OverflowError) as error:
        line = next((_line_of(each) for each in _scalars(node, set()) if not _meant(each)), _line_of(node))
        text = str(error).partition(";")[0]
        raise AtollError(form.code, f"{source}:{line}: not YAML that describes {form.noun}: {_one_line(text)}") from None


def _line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _scalars(node: yaml.Node, seen: set[int]) -> Iterator[yaml.ScalarNode]:
    """Yield the scalars of a document in their order, each once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _scalars(child, seen)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for child in pair:
                yield from _scalars(child, seen)


def _meant(node: yaml.ScalarNode) -> bool:
    """Return whether Python can represent the value of a scalar."""
    try:
        yaml.SafeLoader("").construct_document(node)
    except (ValueError, OverflowError):
        return False
    return True


def _refuse_duplicates(node: yaml.Node, source: str, code: str, seen: set[int]) -> None:
    """Raise AtollError for a key that a mapping has twice; PyYAML would silently use the last one."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicates(child, source, code, seen)
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    line = key.start_mark.line + 1
                    text = f"the key `{key.value}` occurs twice in one mapping: expected it once"
                    raise AtollError(code, f"{source}:{line}: {text}")
                keys.add(key.value)
            _refuse_duplicates(value, source, code, seen)


def _explain(root: yaml.Node, form: Form[Any], detail: ErrorDetails) -> tuple[int, str]:
    """Return the line of a validation error, counted from 1, and its text."""
    path: _Path = detail.get("ctx", {}).get("path", detail["loc"])
    model, name = _resolve(path, form)
    line = _line(root, path)
    where = _spell(path)
    kind = detail["type"]
    if kind == "missing" and isinstance(path[-1], str):
        return line, f"{_spell(path[:-1], end=': ')}`{path[-1]}` is missing: expected {_expected(model, name, form)}"
    if kind == "extra_forbidden":
        return line, f"{_spell(path[:-1], end=': ')}{_unknown_key(str(path[-1]), model)}"
    if kind == "invalid_key":
        return line, f"a key is {describe(detail['input'])}: expected a text as key"
    if kind in form.own_text:
        return line, f"{where + ': ' if where else ''}{detail['msg']}"
    got = describe(detail["input"], quote=name in {"name", "host"})
    return line, f"{where + ': ' if where else ''}expected {_expected(model, name, form)}, got {got}"


def _resolve(path: _Path, form: Form[Any]) -> tuple[type[BaseModel], str | None]:
    """Return the model and the field at a location; the field is `None` if the location is that of a whole model, such as a list's item."""
    model: type[BaseModel] = form.root
    name: str | None = None
    for step in path:
        if name is not None and name not in form.nested:
            break  # inside a value without a model
        if isinstance(step, int) or name in form.named:
            model, name = form.nested[name or form.list_field], None
            continue
        if name is not None:
            model = form.nested[name]
        name = step
    return model, name


def _expected(model: type[BaseModel], name: str | None, form: Form[Any]) -> str:
    if name is None:
        return form.mappings[model]
    info = model.model_fields.get(name)
    return (info and info.description) or "something else"


def _unknown_key(key: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    close = get_close_matches(key, known, n=1)
    meant = f" (did you mean `{close[0]}`?)" if close else ""
    return f"unknown key `{key}`{meant}: expected one of {', '.join(known)}"


def describe(value: object, *, quote: bool = False) -> str:
    """Return a description of a value for messages, in YAML's terms.

    Args:
        value: the value.
        quote: whether to advise quotes for a word such as `no`, which may have been meant as text.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower() + (" (quote it to make it text)" if quote else "")
    if isinstance(value, str):
        return f"the text {_ACCOUNT.sub('//…@', value)[:40]!r}"
    if isinstance(value, (Mapping, list, tuple)):
        kind = "mapping" if isinstance(value, Mapping) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    try:
        return str(value)[:40]
    except ValueError:  # Python does not convert numbers of more than 4,300 digits to text
        return "a number of thousands of digits"


def _spell(path: _Path, end: str = "") -> str:
    """Return a path as text: `sites[0].port` for `("sites", 0, "port")`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{step}"
    return text + end if text else ""


def _line(node: yaml.Node, path: _Path) -> int:
    """Return the line, counted from 1, of the node at a path; if it does not exist, that of the innermost existing node around it."""
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
