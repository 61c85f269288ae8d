"""Common parts of ETSI's APIs: the outer property of a body, the strict validation of its value, and the project of a caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from atoll.gateway.edge.device import fields_of
from atoll.gateway.edge.front import Question
from atoll.gateway.edge.problem import Problem, invalid

WRITERS = frozenset(("admin", "manager", "member"))
"""The roles with which a caller may change objects that the gateway itself stores for the caller's project."""


class Strict(BaseModel):
    """A structure of a standard; properties that are not declared are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


def parsed(body: bytes, name: str, kind: TypeAdapter[Any]) -> Any:
    """Return the value of the only property of a body.

    Args:
        body: the body of a request.
        name: the name of the property.
        kind: the form of its value.

    Raises:
        Problem: the body has another form.
    """
    fields: Mapping[str, Any] = fields_of(body, name)
    if name not in fields:
        raise invalid(f"the body has no {name}")
    return validated(fields[name], name, kind)


def validated(value: Any, name: str, kind: TypeAdapter[Any]) -> Any:
    """Return a value in the form that the standard demands.

    Args:
        value: the value.
        name: the name of the value, for people; empty for a whole body.
        kind: the form.

    Raises:
        Problem: the value has another form.
    """
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, (*([name] if name else []), *first["loc"]))) or "the body"
        raise Problem(400, f"{where} is not as the standard says: {first['msg']}") from None


def project_of(question: Question, *, writes: bool = False) -> str:
    """Return the project of the caller.

    Args:
        question: the request.
        writes: whether the request makes a change, which needs one of the roles `WRITERS`.

    Raises:
        Problem: the token belongs to no project, or its roles do not suffice.
    """
    if not question.caller.project:
        raise Problem(403, "the token belongs to no project")
    if writes and not WRITERS & question.caller.roles:
        raise Problem(403, f"the token may change nothing: expected one of the roles {', '.join(sorted(WRITERS))}")
    return question.caller.project
