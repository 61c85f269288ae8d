"""The state that Keystone's tables should have according to the document: the records that should exist, and their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from atoll.identity.names import NameClaim, NameScope
from atoll.identity.references import Reference, References
from atoll.identity.rows import Content, content
from atoll.identity.tables import KINDS, PREFIX
from atoll.mesh.entry import CREATED, Json
from atoll.mesh.record import Record


class RecordSource(Protocol):
    """The interface by which records of the replicated document are read."""

    def record(self, kind: str, key: str) -> Record | None:
        """Return a record; `None` if nothing was ever written about it."""


@dataclass(frozen=True)
class Conflict:
    """Two records of one name, and the resolution of the conflict.

    Attributes:
        kind: the kind of the records: project, user, group, role, application_credential.
        scope: the id of their domain, or for application credentials of their user.
        name: the name of both in the document.
        kept: the id of the record that keeps the name.
        renamed: the id of the other record.
        new_name: the new name of the other record.
        sites: the sites that created the two.
    """

    kind: str
    scope: str
    name: str
    kept: str
    renamed: str
    new_name: str
    sites: tuple[str, str]


class DesiredState:
    """The desired state of the tables, for the records that were passed to `note`."""

    def __init__(self, document: RecordSource, is_local: Callable[[str, str, Mapping[str, Json]], bool]) -> None:
        """Start without any record.

        Args:
            document: the source of the records.
            is_local: returns whether a record (kind, key, fields) concerns only this site.
        """
        self._document = document
        self._is_local = is_local
        self._references = References()
        self._scopes: dict[tuple[str, str], NameScope] = {}
        self._scope_of: dict[Reference, tuple[str, str]] = {}

    def __contains__(self, record: Reference) -> bool:
        """Return whether a record should exist."""
        return record in self._references

    def note(self, touched: Iterable[Reference]) -> set[Reference]:
        """Update the desired state for records that have changed.

        Returns:
            All records whose content may have changed.
        """
        records = {(kind, key): self._document.record(kind, key) for kind, key in touched if kind in KINDS}
        affected = set(records)
        for reference, record in records.items():
            affected |= self._references.put(reference, self._parents(reference, record))
        scopes: set[tuple[str, str]] = set()
        for reference in affected:
            scopes |= self._claim(reference, records[reference] if reference in records else self._document.record(*reference))
        return affected.union(*(self._settle(scope) for scope in scopes))

    def _parents(self, reference: Reference, record: Record | None) -> Iterable[Reference] | None:
        kind, key = reference
        if record is None or not record.present or self._is_local(kind, key, record.fields):
            return None
        return KINDS[kind].parents_of(key, record.fields)

    def _claim(self, reference: Reference, record: Record | None) -> set[tuple[str, str]]:
        """Add a record's claim to its name if the record exists, or remove the claim; return the scopes that this changes."""
        kind, key = reference
        name = KINDS[kind].name
        if name is None:
            return set()
        before, after = self._scope_of.pop(reference, None), None
        if record and reference in self._references and isinstance(wanted := record.fields.get(name.field), str):
            after = self._scope_of[reference] = (kind, str(record.fields.get(name.scope)))
            self._scopes.setdefault(after, NameScope(name.length)).claim(NameClaim(record.created, key, wanted))
        if before is not None and before != after:
            self._scopes[before].release(key)
        return {scope for scope in (before, after) if scope is not None}

    def _settle(self, scope: tuple[str, str]) -> set[Reference]:
        return {(scope[0], key) for key in self._scopes[scope].settle()}

    def content(self, kind: str, key: str) -> Content | None:
        """Return the desired content of a record's rows; `None` if they should not exist."""
        record = self._document.record(kind, key) if (kind, key) in self._references else None
        if record is None:
            return None
        table = KINDS[kind]
        wanted = content(table, record.fields)
        if table.name and (scope := self._scope_of.get((kind, key))):
            wanted[table.name.field] = self._scopes[scope].name(key)
        return wanted

    def conflicts(self) -> list[Conflict]:
        """Return the conflicts of names, with the records that were renamed."""
        found = []
        for (kind, scope), names in sorted(self._scopes.items()):
            for kept, lost, name in names.renamed():
                sites = self._origin(kind, kept.id), self._origin(kind, lost.id)
                found.append(Conflict(kind.removeprefix(PREFIX), scope, lost.name, kept.id, lost.id, name, sites))
        return found

    def _origin(self, kind: str, key: str) -> str:
        record = self._document.record(kind, key)
        return record.authors.get(CREATED, "") if record else ""
