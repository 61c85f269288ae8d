"""The scope language: which sites a request is about.

`parser` makes a `model.Scope` of a text, `evaluate` makes a plan of it for one service, `explain` tells a person, `url` puts scopes
into URLs.
"""

from atoll.gateway.scope.evaluate import Plan, evaluate
from atoll.gateway.scope.explain import explain
from atoll.gateway.scope.model import Scope, ScopeError
from atoll.gateway.scope.parser import parse
from atoll.gateway.scope.url import prefix_of, rewrite_catalogue

__all__ = ["Plan", "Scope", "ScopeError", "evaluate", "explain", "parse", "prefix_of", "rewrite_catalogue"]
