"""Trees and traits of resource providers, and the keys of projects and users, which Placement reads again in each boot.

To find hosts for a boot, Placement reads by six statements which providers exist, which are nested, which share resources, and which traits
they have. To write the claim, it reads the keys of the project and the user by two statements. With this patch, the answers are kept until
this process writes one of the tables (`services/patches/shared/kept_reads.py`). A claim changes only the generation of a provider, which
these answers do not contain. Inventories, usages and generations are read by each request as before.

A list of candidates is computed in one transaction. If a provider or a trait changes meanwhile, the kept answers may not fit the rows that
the transaction reads, so the list is computed again, without them.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from contextvars import ContextVar
from functools import wraps
from typing import Any

from placement import db_api
from placement.objects import allocation_candidate, project, research_context, trait, user
from placement.objects.allocation_candidate import AllocationCandidates

from atoll.services.patches.shared.kept_reads import KeptReads

Read = Callable[..., Any]

CLAIM = r"UPDATE resource_providers SET generation=\S+, updated_at=\S+ WHERE\b"
"""The beginning of the statement that changes only the generation of a provider."""

PROVIDERS = KeptReads("resource_providers", "resource_provider_traits", "traits", harmless=CLAIM)
PROJECTS = KeptReads("projects")
USERS = KeptReads("users")

_FRESH: ContextVar[bool] = ContextVar("whether the current list of candidates uses no kept answers", default=False)


def _apart(context: Any) -> Any:
    """Return a context with the same caches of names, but without the transaction of the given one."""
    made: Any = db_api.DbContext()
    made.trait_cache, made.rc_cache = context.trait_cache, context.rc_cache
    return made


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    return frozenset(value) if isinstance(value, (list, Set)) else value


def _kept(kept: KeptReads, upstream: Read, copy: Callable[[Any], Any]) -> Read:
    """Wrap a function that reads.

    Args:
        kept: keeps the answers.
        upstream: the function; the order of elements in its arguments does not matter.
        copy: returns a copy of an answer, which the caller may change.
    """

    @wraps(upstream)
    def read(context: Any, *arguments: Any, **keywords: Any) -> Any:
        if _FRESH.get():
            return upstream(context, *arguments, **keywords)
        key = (
            upstream.__qualname__,
            tuple(map(_hashable, arguments)),
            tuple((name, _hashable(keywords[name])) for name in sorted(keywords)),
        )

        def apart() -> Any:
            other = _apart(context)
            with db_api.placement_context_manager.reader.using(other):
                return upstream(other, *arguments, **keywords)

        return copy(kept.answer(key, lambda: upstream(context, *arguments, **keywords), apart))

    return read


def _one_state(upstream: Any) -> Any:
    """Wrap the class method that lists candidates, so that all kept answers in a list are as recent as its transaction."""
    read = upstream.__func__

    @wraps(read)
    def _get_by_requests(cls: Any, *arguments: Any, **keywords: Any) -> Any:
        generation = PROVIDERS.generation
        try:
            found = read(cls, *arguments, **keywords)
        except Exception:
            if generation is not None and generation == PROVIDERS.generation:
                raise
        else:
            if generation is not None and generation == PROVIDERS.generation:
                return found
        token = _FRESH.set(True)
        try:
            return read(cls, *arguments, **keywords)
        finally:
            _FRESH.reset(token)

    return classmethod(_get_by_requests)


def _lists(answer: dict[Any, list[Any]]) -> Any:
    """Copy a dictionary of lists, with upstream's default."""
    copied = answer.copy()
    copied.update({key: list(value) for key, value in answer.items()})
    return copied


def install() -> None:
    """Keep the answers. No other process may use the database."""
    for kept in (PROVIDERS, PROJECTS, USERS):
        kept.watch()
    research_context._has_provider_trees = _kept(PROVIDERS, research_context._has_provider_trees, bool)
    research_context._get_roots_with_traits = _kept(PROVIDERS, research_context._get_roots_with_traits, set)
    research_context.get_sharing_providers = _kept(PROVIDERS, research_context.get_sharing_providers, set)
    research_context.provider_ids_from_uuid = _kept(PROVIDERS, research_context.provider_ids_from_uuid, lambda row: row)
    trait.get_traits_by_provider_tree = _kept(PROVIDERS, trait.get_traits_by_provider_tree, _lists)
    allocation_candidate._provider_ids_from_root_ids = _kept(PROVIDERS, allocation_candidate._provider_ids_from_root_ids, dict)
    AllocationCandidates._get_by_requests = _one_state(AllocationCandidates._get_by_requests)
    project._get_project_by_external_id = _kept(PROJECTS, project._get_project_by_external_id, dict)
    user._get_user_by_external_id = _kept(USERS, user._get_user_by_external_id, dict)
