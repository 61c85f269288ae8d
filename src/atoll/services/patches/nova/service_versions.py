"""The oldest version of Nova's services in each cell, read again only after a service has changed.

The API asks each cell for the oldest version of nova-compute before it accepts a boot, and the scheduler before it looks for a host. Nova
does not cache the answers, because another process may record an upgrade of a service. At a site, a single process writes the table of
services: services of a compute site report through the conductor in this process. So the answers are kept until this process creates or
deletes a service, or changes one of the fields on which they depend. A service's periodic report also writes these fields, but with the
same values, so the answers stay valid.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from nova.db.main import api

FIELDS = ("binary", "deleted", "forced_down", "version")
"""The fields of a service on which the answers depend."""


class Versions:
    """The kept versions of one database, and the values that were last written into its services.

    Attributes:
        generation: the number of changes so far.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.generation = 0
        self._answers: dict[frozenset[str], dict[str, Any]] = {}
        self._written: dict[Any, dict[str, Any]] = {}

    def answer(self, binaries: frozenset[str]) -> dict[str, Any] | None:
        """Return the kept oldest version of each of some services; `None` if the versions must be read."""
        found = self._answers.get(binaries)
        return None if found is None else dict(found)

    def keep(self, binaries: frozenset[str], found: dict[str, Any], generation: int) -> None:
        """Keep an answer, unless a service has changed since the reading began.

        Args:
            binaries: the names of the services.
            found: the oldest version of each.
            generation: the generation before the reading began.
        """
        with self._lock:
            if generation == self.generation:
                self._answers[binaries] = dict(found)

    def changed(self) -> None:
        """Forget all answers, because a service has changed."""
        with self._lock:
            self.generation += 1
            self._answers = {}

    def writes(self, service: Any, values: dict[str, Any]) -> bool:
        """Note the values that are about to be written into a service, and return whether they differ from those that were written last."""
        with self._lock:
            known = self._written.setdefault(service, {})
            news = {name: values[name] for name in FIELDS if name in values and (name not in known or known[name] != values[name])}
            known.update(news)
            return bool(news)

    def failed(self, service: Any) -> None:
        """Forget the values that were last written into a service, because a write has failed."""
        with self._lock:
            self._written.pop(service, None)


_VERSIONS: dict[Any, Versions] = {}
"""The versions of each database by its URL, because a cell's database is reached through more than one context manager."""


def _versions(context: Any) -> Versions:
    """Return the versions of the database that a context reads."""
    return _VERSIONS.setdefault(api.get_engine(context=context).url, Versions())


def _kept(upstream: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Wrap the function that reads the oldest versions."""

    @wraps(upstream)
    def service_get_minimum_version(context: Any, binaries: Iterable[str]) -> dict[str, Any]:
        versions, names = _versions(context), frozenset(binaries)
        found = versions.answer(names)
        if found is None:
            generation = versions.generation
            found = upstream(context, list(names))
            versions.keep(names, found, generation)
        return found

    return service_get_minimum_version


def _changing(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function that creates or deletes a service."""

    @wraps(upstream)
    def write(context: Any, *arguments: Any) -> Any:
        try:
            return upstream(context, *arguments)
        finally:
            _versions(context).changed()

    return write


def _updating(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function that updates a service."""

    @wraps(upstream)
    def service_update(context: Any, service_id: Any, values: dict[str, Any]) -> Any:
        versions = _versions(context)
        news = versions.writes(service_id, values)
        try:
            return upstream(context, service_id, values)
        except BaseException:
            versions.failed(service_id)
            raise
        finally:
            if news:
                versions.changed()

    return service_update


def install() -> None:
    """Keep the oldest versions. No other process may write the table of services."""
    api.service_get_minimum_version = _kept(api.service_get_minimum_version)
    api.service_create = _changing(api.service_create)
    api.service_destroy = _changing(api.service_destroy)
    api.service_update = _updating(api.service_update)
