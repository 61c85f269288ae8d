"""Parses a scope. Each error is one line with the column and the text that was expected there."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken, v_args
from lark.exceptions import VisitError

from atoll.gateway.scope.model import SERVICES, Alternatives, Around, Cross, Expression, Replicated, Scope, ScopeError, Site, sites

LONGEST = 2000
"""Greatest number of characters of a scope: enough to name every site of a large cloud, and few enough to be parsed quickly."""

DEEPEST = 50
"""Greatest depth of nested parentheses; a deeper scope comes from a hostile client and would overflow Python's stack."""

_WORDS = {
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "AMPERSAND": "`&`",
    "_ACROSS": "`%`",
    "_OR": "`||`",
    "DURATION": "a duration such as 20ms",
    "$END": "the end",
}
"""Names of the terminals in messages.

Quotes are allowed nearly everywhere and are not mentioned; the words for names depend on their position."""

_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@lru_cache(maxsize=1024)
def parse(text: str) -> Scope:
    """Parse a scope in the scope language.

    Args:
        text: a scope such as `{compute: paris & lyon, image: nice}`, or OpenStackoïd's form `{"compute": "paris", "image": "nice"}`.

    Raises:
        ScopeError: the text is not a scope.
    """
    if len(text) > LONGEST:
        raise ScopeError(text[: LONGEST + 1], LONGEST + 1, f"the scope has {len(text)} characters: expected at most {LONGEST}")
    _check_depth(text)
    try:
        return _ToScope(text).transform(_parser().parse(text))
    except UnexpectedInput as error:
        raise _explained(text, error) from None
    except VisitError as error:
        if isinstance(error.orig_exc, ScopeError):
            raise error.orig_exc from None
        raise


@cache
def _parser() -> Lark:
    grammar = files("atoll.gateway.scope").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", maybe_placeholders=False)


def _check_depth(text: str) -> None:
    depth = 0
    for column, character in enumerate(text, 1):
        depth += (character == "(") - (character == ")")
        if depth > DEEPEST:
            raise ScopeError(text, column, f"expected at most {DEEPEST} nested parentheses")


def _explained(text: str, error: UnexpectedInput) -> ScopeError:
    """Return the error for an exception of the parser."""
    allowed: Any
    if isinstance(error, UnexpectedCharacters):
        position, found, allowed = error.pos_in_stream or 0, error.char, error.allowed
    elif isinstance(error, UnexpectedToken) and error.token.type != "$END":
        position, found, allowed = error.token.start_pos or 0, str(error.token), error.accepts or error.expected
    else:
        position, found, allowed = len(text), "", getattr(error, "accepts", None) or getattr(error, "expected", None)
    shown = (f"`{found}`" if found.isprintable() else repr(found)) if found else "the end"
    return ScopeError(text, position + 1, f"expected {_expected(set(allowed or ()))}, found {shown}")


def _expected(terminals: set[str]) -> str:
    words = [word for terminal, word in _WORDS.items() if terminal in terminals]
    if "AROUND" in terminals:
        words.insert(0, f"one of {', '.join(SERVICES)}, prime, around")
    elif "NAME" in terminals:
        words.insert(0, "a site")
    *all_but_last, last = words or ['`"`']
    return f"{', '.join(all_but_last)} or {last}" if all_but_last else last


@v_args(inline=True)
class _ToScope(Transformer[Token, Scope]):
    """Converts the parse tree into the model, and checks the rules that the grammar can't express."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def site(self, name: Token) -> Site:
        return Site(str(name), (name.start_pos or 0) + 1)

    def cross(self, *parts: Expression) -> Cross:
        return Cross(_flat(Cross, parts))

    def replicas(self, *parts: Expression) -> Replicated:
        return Replicated(_flat(Replicated, parts))

    def alternatives(self, *parts: Expression) -> Alternatives:
        return Alternatives(_flat(Alternatives, parts))

    def service(self, key: Token, value: Expression) -> tuple[Token, Expression]:
        if key not in SERVICES:
            raise self._error(key, f"there is no service `{key}`: expected one of {', '.join(SERVICES)}, prime, around")
        self._check_once(value)
        return key, value

    def prime(self, key: Token, site: Site) -> tuple[Token, Site]:
        return key, site

    def around(self, key: Token, site: Site, duration: Token) -> tuple[Token, Around]:
        number = duration.rstrip("mus ")
        return key, Around(site, float(number) * _MS[duration[len(number) :].strip()])

    def start(self, *entries: tuple[Token, Any]) -> Scope:
        found: dict[str, Any] = {}
        for key, value in entries:
            if key in found:
                raise self._error(key, f"`{key}` occurs twice: expected once")
            found[str(key)] = value
        prime, around = found.pop("prime", None), found.pop("around", None)
        scope = Scope(tuple(found.items()), prime, around, self._text)
        if prime is not None and prime not in [site for value in found.values() for site in _spanning(value)]:
            raise scope.error(prime.column, f"`{prime}` is not one of the sites joined by `%`: expected one of these as prime")
        return scope

    def _check_once(self, value: Expression) -> None:
        """Check that `&` and `%` do not join a site with itself.

        Raises:
            ScopeError: a site occurs twice.
        """
        if isinstance(value, Site):
            return
        for part in value.parts:
            self._check_once(part)
        if isinstance(value, Alternatives):
            return
        seen: set[str] = set()
        for site in (each for part in value.parts if not isinstance(part, Alternatives) for each in sites(part)):
            if site.name in seen:
                raise ScopeError(self._text, site.column, f"`{site}` is joined with itself: name it once")
            seen.add(site.name)

    def _error(self, token: Token, what: str) -> ScopeError:
        return ScopeError(self._text, (token.start_pos or 0) + 1, what)


def _flat(kind: type[Cross | Replicated | Alternatives], parts: tuple[Expression, ...]) -> tuple[Expression, ...]:
    """Return operands without nested operations of the same kind: `(a & b) & c` becomes `a & b & c`."""
    return tuple(each for part in parts for each in (part.parts if isinstance(part, kind) else (part,)))


def _spanning(expression: Expression) -> tuple[Site, ...]:
    """Return the sites that `%` joins in an expression."""
    if isinstance(expression, Site):
        return ()
    if isinstance(expression, Cross):
        return sites(expression)
    return tuple(site for part in expression.parts for site in _spanning(part))
