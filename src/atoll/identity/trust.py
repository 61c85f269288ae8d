"""Trust between sites: domains and projects that are homed at some sites, and sites with `trust: local-admin`.

Each site writes into a stream of its own, signed with its key, so the author of each entry is known. The entries that are valid are chosen
when a record is read, from the entries and the cloud's YAML alone, in whatever order they arrived. The document is the same at all sites.

- For a record of a homed domain or project, only the entries of its home sites are valid. The record belongs to the domain or project if an
  entry of a home site says so, whatever entries of other sites say. If only other sites claim that a record belongs there, the record does
  not exist.
- Of a site with `trust: local-admin`, entries about users, projects and domains homed at it are valid elsewhere, except grants of an
  administrator's role. Its revocations of issued tokens are valid too, since they take rights away; revocations of tokens yet to be issued
  are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from atoll.identifiers import identifier
from atoll.identity.rules import date_ms
from atoll.identity.tables import KINDS, PREFIX, decode, encode
from atoll.mesh.clock import MAX_AHEAD_MS, ms_of
from atoll.mesh.entry import PRESENT, Fields
from atoll.mesh.record import Record, fold

PRIVILEGED_ROLES = frozenset(identifier("role", name) for name in ("admin", "service", "manager"))
"""Roles with rights beyond a project; the first two have them in the whole cloud."""

_REVOCATION = PREFIX + "revocation"
_ISSUED_BEFORE = KINDS[_REVOCATION].key.index("issued_before")
_GRANTS = frozenset({PREFIX + "assignment", PREFIX + "system_assignment"})
_ROLE = 3
"""The position of the role in the key of a grant."""

# A grant belongs to its target, a trust to its trustor, a membership to its group; none of them belongs to the one that receives the right.
_GOVERNING: dict[str, tuple[tuple[str, str], ...]] = {
    "project": (("project", "domain_id"), ("project", "parent_id")),
    "user": (("project", "domain_id"),),
    "group": (("project", "domain_id"),),
    "role": (("project", "domain_id"),),
    "identity_provider": (("project", "domain_id"),),
    "federation_protocol": (("identity_provider", "idp_id"),),
    "membership": (("group", "group_id"),),
    "assignment": (("project", "target_id"),),
    "access_rule": (("user", "user_id"),),
    "application_credential": (("user", "user_id"), ("project", "project_id")),
    "trust": (("user", "trustor_user_id"), ("project", "project_id")),
    "limit": (("project", "project_id"), ("project", "domain_id")),
    "project_endpoint_group": (("project", "project_id"),),
    "project_endpoint": (("project", "project_id"),),
    "whitelisted_config": (("project", "domain_id"),),
    "sensitive_config": (("project", "domain_id"),),
}
"""By kind, the owners of a record: the kind of an owner, and the column that names it. Domains are projects."""


@dataclass(frozen=True)
class TrustPolicy:
    """The trust settings of the cloud's YAML.

    Attributes:
        here: this site's name.
        limited: the sites with `trust: local-admin`.
        homed: by id of a domain or a project, the sites that administer it.
    """

    here: str = ""
    limited: frozenset[str] = frozenset()
    homed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, here: str, trust: Mapping[str, str], homed: Mapping[str, Iterable[str]]) -> TrustPolicy:
        """Return the policy in a site's settings.

        Args:
            here: the site's name.
            trust: the trust level by site.
            homed: sites by `domain/ID` or `project/ID`.
        """
        limited = frozenset(site for site, level in trust.items() if level != "full")
        return cls(here, limited, {key.partition("/")[2]: frozenset(sites) for key, sites in homed.items()})

    @property
    def is_unrestricted(self) -> bool:
        """True if every site's entries about every record are valid."""
        return not self.limited and not self.homed


class EntrySource(Protocol):
    """The interface by which records of the replicated document are read."""

    def record(self, kind: str, key: str) -> Record | None:
        """Return a record; `None` if nothing was ever written about it."""

    def entries(self, kind: str, key: str) -> dict[str, Fields]:
        """Return the entries about a record, each under the name of its author."""


class TrustedRecords:
    """The records of the document, computed from the entries of trusted sites only."""

    def __init__(self, document: EntrySource, policy: TrustPolicy) -> None:
        """Prepare to read records.

        Args:
            document: the source of the entries.
            policy: the trust settings.
        """
        self._document = document
        self._policy = policy

    def record(self, kind: str, key: str) -> Record | None:
        """Return a record; `None` if no trusted site has written about it."""
        if self._policy.is_unrestricted or kind not in KINDS:
            return self._document.record(kind, key)
        homes = self.homes_of(kind, key)
        entries = self._document.entries(kind, key).items()
        valid = ((author, fields) for author, fields in entries if self._is_valid(kind, key, author, fields, homes))
        return fold(kind, key, valid, {})

    def homes_of(self, kind: str, key: str) -> frozenset[str] | None:
        """Return the sites that administer a record; `None` if all do."""
        if self._policy.is_unrestricted or kind == _REVOCATION or kind not in KINDS:
            return None
        owner = self._owner(kind, key, {})
        return self._policy.homed[owner] if owner else None

    def _is_valid(self, kind: str, key: str, author: str, fields: Fields, homes: frozenset[str] | None) -> bool:
        if homes is not None and author not in homes:
            return False
        if author not in self._policy.limited or author == self._policy.here:
            return True
        if kind == _REVOCATION:
            return _is_of_its_time(key, fields)
        privileged = kind in _GRANTS and decode(key)[_ROLE] in PRIVILEGED_ROLES
        return homes is not None and not privileged

    def _owner(self, kind: str, key: str, known: dict[tuple[str, str], str]) -> str:
        """Return the id of the homed domain or project that a record belongs to; empty if there is none.

        Args:
            kind: the record's kind.
            key: the record's key.
            known: the owners found so far. A record that is its own ancestor, as a hostile site may claim, has no owner.
        """
        if (kind, key) not in known:
            known[kind, key] = ""
            known[kind, key] = self._find_owner(kind, key, known)
        return known[kind, key]

    def _find_owner(self, kind: str, key: str, known: dict[tuple[str, str], str]) -> str:
        entries = self._document.entries(kind, key)
        claims = {author: self._claim(kind, key, fields, known) for author, fields in entries.items()}
        claims = {author: claim for author, claim in claims.items() if claim is not None}
        # A limited site must not take over, by a claim, a record that another site places elsewhere.
        claims = {author: claim for author, claim in claims.items() if author not in self._policy.limited} or claims
        for owner, homes in self._policy.homed.items():  # in the order of the YAML
            if any(claim == owner and author in homes for author, claim in claims.items()):
                return owner
        # No home site claims the record for this owner, and other sites must not.
        return next((owner for owner in self._policy.homed if owner in claims.values()), "")

    def _claim(self, kind: str, key: str, fields: Fields, known: dict[tuple[str, str], str]) -> str | None:
        """Return the homed domain or project that a record belongs to by one author's entry.

        Returns:
            The id of the domain or project; empty if the record belongs to something else; `None` if the entry does not name an owner.
        """
        if kind == PREFIX + "project" and key in self._policy.homed:
            return key
        table = KINDS[kind]
        row = dict(zip(table.key, decode(key), strict=False)) | {name: item.value for name, item in fields.items()}
        owners = [(owner_kind, row.get(column)) for owner_kind, column in _GOVERNING.get(table.kind, ())]
        said = [(PREFIX + owner_kind, encode([owner])) for owner_kind, owner in owners if isinstance(owner, str) and owner]
        return next(filter(None, (self._is_or_has(*each, known) for each in said)), "") if said else None

    def _is_or_has(self, kind: str, key: str, known: dict[tuple[str, str], str]) -> str:
        return key if kind == PREFIX + "project" and key in self._policy.homed else self._owner(kind, key, known)


def _is_of_its_time(key: str, fields: Fields) -> bool:
    """Return whether a revocation concerns tokens issued before it was written, within the difference of clocks."""
    issued_before = date_ms(decode(key)[_ISSUED_BEFORE])
    written = fields[PRESENT].stamp if PRESENT in fields else 0
    return issued_before is not None and issued_before <= ms_of(written) + MAX_AHEAD_MS
