"""A writer of oslo.config's INI dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Scalar = str | int | float | bool
Value = Scalar | Iterable[Scalar]
Sections = Mapping[str, Mapping[str, Value]]


class Repeated(tuple[str, ...]):
    """The values of an option that is written once for each value (oslo.config's `MultiStrOpt`)."""

    __slots__ = ()


def render(*parts: Sections) -> str:
    """Render an oslo.config file.

    Args:
        parts: sections by name, each a mapping of options to values. A later part adds to the sections of an earlier part, and overrides
            its options.

    Returns:
        The text. A list becomes a comma-separated value, or a line for each value if it is `Repeated`. `$`, blanks at the ends and a pair
            of quotes are escaped, because oslo.config would interpret or strip them.
    """
    merged: dict[str, dict[str, Value]] = {}
    for part in parts:
        for section, options in part.items():
            merged.setdefault(section, {}).update(options)
    return "\n".join(_section(name, options) for name, options in merged.items())


def _section(name: str, options: Mapping[str, Value]) -> str:
    pairs = ((option, each) for option, value in options.items() for each in (value if isinstance(value, Repeated) else (value,)))
    lines = (f"{option} = {_quoted(_text(value))}" for option, value in pairs)
    return "\n".join((f"[{name}]", *lines, ""))


def _quoted(text: str) -> str:
    stripped = text != text.strip() or (text[:1] == text[-1:] and text.startswith(("'", '"')))
    return f'"{text}"' if stripped else text


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value).replace("$", r"\$")  # "$$" would mean a dollar sign too, but not after a backslash
    return ",".join(map(_text, value))
