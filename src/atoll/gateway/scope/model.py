"""The syntax tree of a scope; `str()` returns it in the scope language."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from atoll.errors import AtollError

SERVICES = ("identity", "image", "compute", "network", "placement")
"""The services that a scope can name, which are the first segments of a gateway's paths."""


class ScopeError(AtollError):
    """A scope is malformed, or its meaning is not supported: `scope.invalid`.

    Args:
        text: the scope.
        column: the column of the error, from 1.
        what: the fault at that column, and the expected text.
    """

    def __init__(self, text: str, column: int, what: str) -> None:
        super().__init__("scope.invalid", f"scope, column {column}: {what}")
        self.text = text
        self.column = column
        self.what = what

    def pointer(self) -> str:
        """Return two lines for a terminal: the scope, and a caret below the column."""
        shown = "".join(character if character.isprintable() else " " for character in self.text)
        return f"  {shown}\n  {' ' * (self.column - 1)}^"


@dataclass(frozen=True)
class Site:
    """One site of a scope.

    Attributes:
        name: the site's name.
        column: the column of the name in the text, from 1; ignored in comparisons.
    """

    name: str
    column: int = field(default=1, compare=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class _Operation:
    parts: tuple[Expression, ...]

    def _join(self, operator: str) -> str:
        return f" {operator} ".join(f"({part})" if _binds_less(part, self) else str(part) for part in self.parts)

    @property
    def column(self) -> int:
        """The column at which the operation begins, from 1."""
        return self.parts[0].column


class Cross(_Operation):
    """The operation `a % b`: one resource that spans the sites."""

    def __str__(self) -> str:
        return self._join("%")


class Replicated(_Operation):
    """The operation `a & b`: the same resource at each of the sites."""

    def __str__(self) -> str:
        return self._join("&")


class Alternatives(_Operation):
    """The operation `a || b`: a resource at the first of the sites that succeeds."""

    def __str__(self) -> str:
        return self._join("||")


Expression = Site | Cross | Replicated | Alternatives

_TIGHTNESS = {Alternatives: 0, Replicated: 1, Cross: 2, Site: 3}


def _binds_less(part: Expression, around: _Operation) -> bool:
    # Only a tree that was not parsed has an operation inside one of its own kind: the parser merges the two.
    return _TIGHTNESS[type(part)] <= _TIGHTNESS[type(around)]


def sites(expression: Expression) -> tuple[Site, ...]:
    """Return all sites of an expression, in their order."""
    return (expression,) if isinstance(expression, Site) else tuple(site for part in expression.parts for site in sites(part))


@dataclass(frozen=True)
class Around:
    """The entry `around: site, 20ms`: any site within a round trip of 20 ms from `site`."""

    site: Site
    within_ms: float

    def __str__(self) -> str:
        return f"around: {self.site}, {spell_ms(self.within_ms)}"


@dataclass(frozen=True)
class Scope:
    """A parsed scope with all its entries.

    Attributes:
        services: the expression for each named service.
        prime: the site that leads a resource that spans sites.
        around: the entry for every service that is not named.
        text: the text that was parsed, for messages.
    """

    services: tuple[tuple[str, Expression], ...] = ()
    prime: Site | None = None
    around: Around | None = None
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        entries = [f"{service}: {expression}" for service, expression in self.services]
        if self.prime is not None:
            entries.append(f"prime: {self.prime}")
        if self.around is not None:
            entries.append(str(self.around))
        return "{" + ", ".join(entries) + "}"

    def of(self, service: str) -> Expression | None:
        """Return the expression for a service; `None` if the scope does not name it."""
        return dict(self.services).get(service)

    def error(self, column: int, what: str) -> ScopeError:
        """Return an error at a column of the text."""
        return ScopeError(self.text, column, what)


def spell_ms(value: float) -> str:
    """Return a duration in milliseconds as text that is parsed as the same number."""
    text = format(Decimal(repr(value)), "f")  # without an exponent
    return f"{text.removesuffix('.0')}ms"
