"""Membership in the document: its records, the rules for writing them, and their effect on the roster.

member      key: the site      card, left          written by the site itself
admission   key: fingerprint   admission           written by a member; signed, so that any site may relay it
revocation  key: the site      stamp               written by a member; can't be withdrawn
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509

from atoll.errors import AtollError
from atoll.mesh.clock import HybridClock, ms_of
from atoll.mesh.document import Document
from atoll.mesh.entry import CREATED, PRESENT, Stamped, entry_name
from atoll.mesh.members import Admission, Card, Roster, read_cards
from atoll.mesh.record import Change, Rule
from atoll.mesh.refusals import Refused
from atoll.mesh.signing import Signer

_LOG = logging.getLogger(__name__)

MEMBER, ADMISSION, REVOCATION = "member", "admission", "revocation"
KINDS = frozenset({MEMBER, ADMISSION, REVOCATION})
_MAX_VOUCHERS = 32
_NEVER = 1 << 63


def rules(authority: x509.Certificate) -> dict[str, Rule]:
    """Return the rules for the entries of the three kinds.

    Args:
        authority: the certificate of the cloud's authority.
    """
    return {MEMBER: partial(_member, authority), ADMISSION: partial(_admission, authority), REVOCATION: _revocation}


def _member(authority: x509.Certificate, author: str, key: str, fields: Mapping[str, Any]) -> None:
    _only(key, fields, {"card", "left"})
    if author != key:
        raise Refused(f"{author} writes the member record of {key!r:.40}")
    try:
        card = Card.parse(fields["card"], authority) if "card" in fields else None
    except ValueError as error:
        raise Refused(f"the card of {author} is invalid: {error}") from None
    if (card and card.name != author) or not isinstance(fields.get("left", False), bool):
        raise Refused(f"the member record of {author} is inconsistent")


def _admission(authority: x509.Certificate, author: str, key: str, fields: Mapping[str, Any]) -> None:
    _only(key, fields, {"admission"}, lasting=True)
    try:
        found = Admission.parse(fields.get("admission"), authority)
    except ValueError as error:
        raise Refused(f"an admission by {author} is invalid: {error}") from None
    if found.card.fingerprint != key:
        raise Refused(f"an admission by {author} does not match its key")


def _revocation(author: str, key: str, fields: Mapping[str, Any]) -> None:
    _only(key, fields, {"stamp"}, lasting=True)
    stamp = fields.get("stamp")
    if type(stamp) is not int or stamp < 0:
        raise Refused(f"a revocation by {author} has no valid stamp")


def _only(key: str, fields: Mapping[str, Any], allowed: set[str], *, lasting: bool = False) -> None:
    if not fields.keys() <= allowed | {PRESENT, CREATED}:
        raise Refused(f"a record of {key!r:.40} has unknown fields")
    if lasting and fields.get(PRESENT) is not True:
        raise Refused(f"the record of {key!r:.40} can't be withdrawn")


def former(authority: x509.Certificate, name: str, entries: Mapping[str, Mapping[str, Stamped]]) -> x509.Certificate | None:
    """Return the certificate that a site had when it wrote some entries, by its own statement in them; `None` without one.

    Args:
        authority: the certificate of the cloud's authority, which must have issued it.
        name: the site's name.
        entries: the entries by name.
    """
    said = entries.get(entry_name(MEMBER, name), {}).get("card")
    try:
        card = Card.parse(said.value, authority) if said else None
    except ValueError:
        return None
    return x509.load_pem_x509_certificate(card.certificate.encode("ascii")) if card and card.name == name else None


class Membership:
    """Keeps the roster up to date with the document and the file of members.

    Args:
        roster: the members.
        document: the replicated document.
        clock: issues stamps.
        signer: this site's key.
        file: the file of members.
    """

    def __init__(self, roster: Roster, document: Document, clock: HybridClock, signer: Signer, file: Path) -> None:
        self._roster = roster
        self._document = document
        self._clock = clock
        self._signer = signer
        self._file = file
        self._file_state: tuple[int, int] = (0, 0)

    def follow(self) -> None:
        """Update the roster after records have changed."""
        roster, document, authority = self._roster, self._document, self._roster.authority
        stated, left = {}, set()
        for record in document.records(MEMBER):
            if "card" in record.fields:
                stated[record.key] = (ms_of(record.stamps["card"]), Card.parse(record.fields["card"], authority))
            if record.fields.get("left"):
                left.add(record.key)
        revoked = {record.key: record.fields["stamp"] for record in document.records(REVOCATION) if "stamp" in record.fields}
        before = roster.revoked
        roster.stated, roster.left, roster.revoked = stated, frozenset(left), revoked
        roster.admit(Admission.parse(text, authority) for record in document.records(ADMISSION) if (text := record.fields.get("admission")))
        roster.former |= {name: card for name, (_, card) in stated.items() if name not in roster.cards()}
        for name in before.keys() | revoked.keys():
            # A revocation is void if its author was revoked at an earlier time.
            document.ignored(name, revoked.get(name, _NEVER))

    def read_file(self) -> bool:
        """Read the file of members, if it has changed.

        Returns:
            False if it has not changed, or does not exist.
        """
        try:
            status = self._file.stat()
            text = self._file.read_text(encoding="utf-8")
        except OSError:
            return False
        state = (status.st_mtime_ns, status.st_size)
        if state == self._file_state:
            return False
        self._file_state = state
        listed = read_cards(text, self._roster.authority, lambda why: _LOG.warning("%s: %s", self._file, why))
        self._roster.listed, self._roster.listed_at = listed, status.st_mtime_ns // 1_000_000
        self._roster.conclude()
        return True

    def introduce(self) -> None:
        """Publish this site's card, if the document has another one."""
        own = self._roster.own
        record = self._document.record(MEMBER, own.name)
        fields = {PRESENT: True, "card": own.dump()}
        if record is None:  # a site was created anew under the name of a site that has left
            fields["left"] = False
        if record is None or any(record.fields.get(name) != value for name, value in fields.items()):
            self._document.write([Change(MEMBER, own.name, fields)])

    def leave(self) -> None:
        """Publish that this site leaves."""
        self._document.write([Change(MEMBER, self._roster.own.name, {"left": True})])

    def admit(self, card: Card) -> None:
        """Make a site a member by publishing its admission."""
        self._document.write([self._change(self._admission(card))])

    def revoke(self, name: str) -> None:
        """Revoke a site, for ever.

        Raises:
            AtollError: `site.unknown`: no member has the name; `mesh.refused`: the site is this site itself.
        """
        if name == self._roster.own.name:
            raise AtollError("mesh.refused", f"{name} can't revoke itself", f"run it at another site, or `atoll site leave {name}`")
        if name not in self._roster.cards():
            raise AtollError("site.unknown", f"no member is called {name}", "`atoll mesh` lists them")
        if name in self._roster.revoked:
            return
        stamp = self._clock.tick()
        self._document.write([Change(REVOCATION, name, {PRESENT: True, "stamp": stamp})])
        self._document.adopt(name, stamp)

    # Vouchers, which make an unknown site known

    def own_vouchers(self) -> bytes:
        """Return this site's vouchers: the admissions by which a site that does not know it can verify its membership."""
        chain = self._roster.chain(self._roster.own.name)
        return json.dumps([admission.dump() for admission in chain]).encode() if chain else b""

    def vouchers_for(self, name: str) -> bytes:
        """Return the vouchers for a site, for a peer that knows this one; empty if the site is not a member."""
        if name in self._roster.former and name not in self._roster.cards():
            return json.dumps({"former": self._roster.former[name].dump()}).encode()
        if not self._roster.is_member(name):
            return b""
        chain = self._roster.chain(name) or [self._admission(self._roster.cards()[name])]
        return json.dumps([admission.dump() for admission in chain]).encode()

    def take_vouchers(self, data: bytes, *, of_member: bool) -> bool:
        """Accept vouchers, which may be hostile.

        Args:
            data: the vouchers.
            of_member: whether a member sent them; of a stranger's vouchers, only those that others have signed are accepted.

        Returns:
            True if the vouchers have made a site a member.
        """
        try:
            said = json.loads(data)
            if of_member and isinstance(said, dict):
                return self._take_former(Card.parse(said["former"], self._roster.authority))
            admissions = [Admission.parse(item, self._roster.authority) for item in said[:_MAX_VOUCHERS]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
        return self._roster.admit(admissions)

    def _take_former(self, card: Card) -> bool:
        """Record a former member: its old entries stay valid when others relay them, but it is not a member."""
        if card.name in self._roster.cards() or card.name in self._roster.former:
            return False
        self._roster.former[card.name] = card
        return True

    def _admission(self, card: Card) -> Admission:
        return Admission.make(self._roster.cloud, card, self._roster.own.name, self._clock.tick(), self._signer)

    @staticmethod
    def _change(admission: Admission) -> Change:
        return Change(ADMISSION, admission.card.fingerprint, {PRESENT: True, "admission": admission.dump()})
