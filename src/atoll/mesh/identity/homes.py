"""Whose word counts: domains and projects that are homed at some sites, and sites that are trusted for no more than themselves.

Each site writes into a stream of its own, signed with its key, so the author of each entry is known. Which entries count is worked out
where records are read, from the entries and the cloud's YAML alone, in whatever order they came. The document is the same at all sites.

- A record that belongs to a homed domain or project is what its home sites have written about it, and nothing else. It belongs there if
  they say so, whatever others say; and what others alone claim to belong there is not there at all.
- Of a site with `trust: local-admin` only that counts elsewhere which belongs to something homed at it, but no role of an administrator;
  and revocations, which take rights away: of tokens that there are, not of those that are yet to be issued.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from atoll.identifiers import identifier
from atoll.mesh.clock import MAX_AHEAD_MS, ms_of
from atoll.mesh.identity.rules import date_ms
from atoll.mesh.identity.tables import KINDS, PREFIX, encode, parts
from atoll.mesh.record import PRESENT, Fields, Record, fold

PRIVILEGED_ROLES = frozenset(identifier("role", name) for name in ("admin", "service", "manager"))
"""Roles with rights beyond a project; the first two have them in the whole cloud."""

_REVOCATION = PREFIX + "revocation"
_ISSUED_BEFORE = KINDS[_REVOCATION].key.index("issued_before")
_GRANTS = frozenset({PREFIX + "assignment", PREFIX + "system_assignment"})
_ROLE = 3
"""The position of the role in the key of a grant."""

# A grant belongs to its target, a trust to who gives it, a membership to its group: not to who gets it.
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
"""By kind, what a record belongs to: kind of the owner, and the column that names it. Domains are projects."""


@dataclass(frozen=True)
class Policy:
    """What the cloud's YAML says.

    Attributes:
        here: this site's name.
        limited: the sites with `trust: local-admin`.
        homed: by id of a domain or a project, the sites that administer it.
    """

    here: str = ""
    limited: frozenset[str] = frozenset()
    homed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, here: str, trust: Mapping[str, str], homed: Mapping[str, Iterable[str]]) -> Policy:
        """The policy that a site's settings have.

        Args:
            here: its name.
            trust: the level by site.
            homed: sites by `domain/ID` or `project/ID`.
        """
        limited = frozenset(site for site, level in trust.items() if level != "full")
        return cls(here, limited, {key.partition("/")[2]: frozenset(sites) for key, sites in homed.items()})

    @property
    def says_nothing(self) -> bool:
        """Whether every site's word counts for everything."""
        return not self.limited and not self.homed


class Entries(Protocol):
    """What is needed of the document."""

    def record(self, kind: str, key: str) -> Record | None:
        """A record; None if nothing was ever written about it."""

    def entries(self, kind: str, key: str) -> dict[str, Fields]:
        """What each author has written about it."""


class Homes:
    """Records as the policy has them count."""

    def __init__(self, document: Entries, policy: Policy) -> None:
        """Nothing is read yet.

        Args:
            document: where the entries are.
            policy: whose count.
        """
        self._document = document
        self._policy = policy

    def record(self, kind: str, key: str) -> Record | None:
        """A record; `None` if nobody whose word counts has written about it."""
        if self._policy.says_nothing or kind not in KINDS:
            return self._document.record(kind, key)
        homes = self.homes_of(kind, key)
        entries = self._document.entries(kind, key).items()
        counting = ((author, fields) for author, fields in entries if self._counts(kind, key, author, fields, homes))
        return fold(kind, key, counting, {})

    def homes_of(self, kind: str, key: str) -> frozenset[str] | None:
        """The sites that administer a record; `None` if all do."""
        if self._policy.says_nothing or kind == _REVOCATION or kind not in KINDS:
            return None
        owner = self._owner(kind, key, {})
        return self._policy.homed[owner] if owner else None

    def _counts(self, kind: str, key: str, author: str, fields: Fields, homes: frozenset[str] | None) -> bool:
        if homes is not None and author not in homes:
            return False
        if author not in self._policy.limited or author == self._policy.here:
            return True
        if kind == _REVOCATION:
            return _is_of_its_time(key, fields)
        privileged = kind in _GRANTS and parts(key)[_ROLE] in PRIVILEGED_ROLES
        return homes is not None and not privileged

    def _owner(self, kind: str, key: str, known: dict[tuple[str, str], str]) -> str:
        """The id of the homed domain or project that a record belongs to; empty if there is none.

        Args:
            kind: of the record.
            key: of the record.
            known: what was found already. What is its own ancestor, as a hostile site may claim, belongs to nothing by that.
        """
        if (kind, key) not in known:
            known[kind, key] = ""
            known[kind, key] = self._find_owner(kind, key, known)
        return known[kind, key]

    def _find_owner(self, kind: str, key: str, known: dict[tuple[str, str], str]) -> str:
        entries = self._document.entries(kind, key)
        claims = {author: self._claim(kind, key, fields, known) for author, fields in entries.items()}
        claims = {author: claim for author, claim in claims.items() if claim is not None}
        # A limited site must not make its own, by a claim, what another site says is elsewhere.
        claims = {author: claim for author, claim in claims.items() if author not in self._policy.limited} or claims
        for owner, homes in self._policy.homed.items():  # in the order of the YAML
            if any(claim == owner and author in homes for author, claim in claims.items()):
                return owner
        # Nobody who is at home there says so: others must not claim it.
        return next((owner for owner in self._policy.homed if owner in claims.values()), "")

    def _claim(self, kind: str, key: str, fields: Fields, known: dict[tuple[str, str], str]) -> str | None:
        """The homed domain or project that a record belongs to, by what one author says.

        Returns:
            Its id; empty if it belongs to something else; `None` if the author does not say.
        """
        if kind == PREFIX + "project" and key in self._policy.homed:
            return key
        table = KINDS[kind]
        row = dict(zip(table.key, parts(key), strict=False)) | {name: item.value for name, item in fields.items()}
        owners = [(owner_kind, row.get(column)) for owner_kind, column in _GOVERNING.get(table.kind, ())]
        said = [(PREFIX + owner_kind, encode([owner])) for owner_kind, owner in owners if isinstance(owner, str) and owner]
        return next(filter(None, (self._is_or_has(*each, known) for each in said)), "") if said else None

    def _is_or_has(self, kind: str, key: str, known: dict[tuple[str, str], str]) -> str:
        return key if kind == PREFIX + "project" and key in self._policy.homed else self._owner(kind, key, known)


def _is_of_its_time(key: str, fields: Fields) -> bool:
    """True for a revocation of tokens that were issued before it was written, as far as clocks may be apart."""
    issued_before = date_ms(parts(key)[_ISSUED_BEFORE])
    written = fields[PRESENT].stamp if PRESENT in fields else 0
    return issued_before is not None and issued_before <= ms_of(written) + MAX_AHEAD_MS
