"""The scope language, in which a client names the sites that a request concerns.

`parser` parses a text into a `model.Scope`; `evaluate` turns a scope into a plan for one service; `explain` describes the effect of a
scope; `url` puts scopes into URLs.
"""

from atoll.gateway.scope.evaluate import Plan, evaluate
from atoll.gateway.scope.explain import explain
from atoll.gateway.scope.model import Scope, ScopeError
from atoll.gateway.scope.parser import parse
from atoll.gateway.scope.url import prefix_of, rewrite_catalogue

__all__ = ["Plan", "Scope", "ScopeError", "evaluate", "explain", "parse", "prefix_of", "rewrite_catalogue"]
