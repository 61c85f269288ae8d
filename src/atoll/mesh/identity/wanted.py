"""What Keystone's tables should hold, by the document: records that are there, under the names that they may have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from atoll.mesh.identity.names import Claim, Scope
from atoll.mesh.identity.references import Reference, References
from atoll.mesh.identity.rows import Content, content
from atoll.mesh.identity.tables import KINDS, PREFIX
from atoll.mesh.record import CREATED, Json, Record


class Records(Protocol):
    """What is needed of the document."""

    def record(self, kind: str, key: str) -> Record | None:
        """A record; None if nothing was ever written about it."""


@dataclass(frozen=True)
class Conflict:
    """Two records of one name, and how it was settled.

    Attributes:
        kind: of the records: project, user, group, role, application_credential.
        scope: the id of their domain; of the user, for application credentials.
        name: what both are called in the document.
        kept: the id of the one that is called so.
        renamed: the id of the other.
        new_name: what that is called.
        sites: where the two were made.
    """

    kind: str
    scope: str
    name: str
    kept: str
    renamed: str
    new_name: str
    sites: tuple[str, str]


class Wanted:
    """What the tables should hold. It knows of the records that it was told of (`note`)."""

    def __init__(self, document: Records, is_local: Callable[[str, str, Mapping[str, Json]], bool]) -> None:
        """Nothing is known.

        Args:
            document: where the records are.
            is_local: whether a record (kind, key, fields) is of something that this site has for itself.
        """
        self._document = document
        self._is_local = is_local
        self._references = References()
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._scope_of: dict[Reference, tuple[str, str]] = {}

    def __contains__(self, record: Reference) -> bool:
        """Whether a record should be there."""
        return record in self._references

    def note(self, touched: Iterable[Reference]) -> set[Reference]:
        """Records were changed.

        Returns:
            All records whose content may be another now.
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
        """Put in a record's claim to its name, if it is there; the scopes that this changes."""
        kind, key = reference
        name = KINDS[kind].name
        if name is None:
            return set()
        before, after = self._scope_of.pop(reference, None), None
        if record and reference in self._references and isinstance(wanted := record.fields.get(name.field), str):
            after = self._scope_of[reference] = (kind, str(record.fields.get(name.scope)))
            self._scopes.setdefault(after, Scope(name.length)).claim(Claim(record.created, key, wanted))
        if before is not None and before != after:
            self._scopes[before].release(key)
        return {scope for scope in (before, after) if scope is not None}

    def _settle(self, scope: tuple[str, str]) -> set[Reference]:
        return {(scope[0], key) for key in self._scopes[scope].settle()}

    def content(self, kind: str, key: str) -> Content | None:
        """What the rows of a record should say; None if they should not be there."""
        record = self._document.record(kind, key) if (kind, key) in self._references else None
        if record is None:
            return None
        table = KINDS[kind]
        wanted = content(table, record.fields)
        if table.name and (scope := self._scope_of.get((kind, key))):
            wanted[table.name.field] = self._scopes[scope].name(key)
        return wanted

    def conflicts(self) -> list[Conflict]:
        """Whose name was changed, since another has it."""
        found = []
        for (kind, scope), names in sorted(self._scopes.items()):
            for kept, lost, name in names.renamed():
                sites = self._origin(kind, kept.id), self._origin(kind, lost.id)
                found.append(Conflict(kind.removeprefix(PREFIX), scope, lost.name, kept.id, lost.id, name, sites))
        return found

    def _origin(self, kind: str, key: str) -> str:
        record = self._document.record(kind, key)
        return record.authors.get(CREATED, "") if record else ""
