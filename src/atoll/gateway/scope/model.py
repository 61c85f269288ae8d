"""What a scope says, as data; `str()` writes it in the language again."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from atoll.errors import AtollError

SERVICES = ("identity", "image", "compute", "network", "placement")
"""What a scope can speak of: the first segments of a gateway's paths."""


class ScopeError(AtollError):
    """A scope makes no sense: `scope.invalid`.

    Args:
        text: the scope.
        column: where in it, from 1.
        what: what is wrong there, and what was expected.
    """

    def __init__(self, text: str, column: int, what: str) -> None:
        super().__init__("scope.invalid", f"scope, column {column}: {what}")
        self.text = text
        self.column = column
        self.what = what

    def pointer(self) -> str:
        """Two lines for a terminal: the scope, and a caret below the column."""
        shown = "".join(character if character.isprintable() else " " for character in self.text)
        return f"  {shown}\n  {' ' * (self.column - 1)}^"


@dataclass(frozen=True)
class Site:
    """One site. The column is where its name stands, from 1, and does not count when two are compared."""

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
        """Where it begins, from 1."""
        return self.parts[0].column


class Cross(_Operation):
    """`a % b`: one resource that spans the sites."""

    def __str__(self) -> str:
        return self._join("%")


class Replicas(_Operation):
    """`a & b`: the same resource at each of the sites."""

    def __str__(self) -> str:
        return self._join("&")


class Alternatives(_Operation):
    """`a || b`: at the first of the sites where it works."""

    def __str__(self) -> str:
        return self._join("||")


Expression = Site | Cross | Replicas | Alternatives

_TIGHTNESS = {Alternatives: 0, Replicas: 1, Cross: 2, Site: 3}


def _binds_less(part: Expression, around: _Operation) -> bool:
    # An operation inside one of its own kind keeps its parentheses: the parser makes them one, so there is none.
    return _TIGHTNESS[type(part)] <= _TIGHTNESS[type(around)]


def sites(expression: Expression) -> tuple[Site, ...]:
    """All sites that are named, in their order."""
    return (expression,) if isinstance(expression, Site) else tuple(site for part in expression.parts for site in sites(part))


@dataclass(frozen=True)
class Around:
    """`around: site, 20ms`: anywhere within a round trip of so many milliseconds from a site."""

    site: Site
    within_ms: float

    def __str__(self) -> str:
        return f"around: {self.site}, {spell_ms(self.within_ms)}"


@dataclass(frozen=True)
class Scope:
    """A whole scope.

    Attributes:
        services: what is said of each service.
        prime: the site that leads a resource which spans sites.
        around: said of every service that is not among `services`.
        text: what was parsed, for messages.
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
        """What is said of one service; None: nothing."""
        return dict(self.services).get(service)

    def error(self, column: int, what: str) -> ScopeError:
        """That something is wrong at a column of the text."""
        return ScopeError(self.text, column, what)


def spell_ms(value: float) -> str:
    """A duration as text that is read back as the same number."""
    text = format(Decimal(repr(value)), "f")  # without an exponent
    return f"{text.removesuffix('.0')}ms"
