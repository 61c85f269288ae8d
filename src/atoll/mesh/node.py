"""A site's node of the mesh: it knows who is a member, who can be reached and how far away they are, and keeps the document equal.

Runs in one event loop. Nothing in it waits for another site: what a site says when it can't be reached is said when it can.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509

from atoll.bus.zenoh_config import Tls
from atoll.files import make_directory
from atoll.mesh import agreed_time, swim
from atoll.mesh.admission import Desk, Invitations
from atoll.mesh.clock import HybridClock
from atoll.mesh.conversation import Conversation
from atoll.mesh.document import Document
from atoll.mesh.envelope import Envelopes
from atoll.mesh.identity.rules import rules as identity_rules
from atoll.mesh.members import Card, Member, Roster, State
from atoll.mesh.membership import KINDS, Membership, former, rules
from atoll.mesh.record import Refused
from atoll.mesh.signing import Signer
from atoll.mesh.store import Store

_LOG = logging.getLogger(__name__)

_TIDY_S = 30.0
"""Seconds between two looks for deleted records of which less has to be kept."""

_TIME_S = 1.0
"""Seconds between two looks at this site's own clock."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class MeshOptions:
    """What a node is told.

    Attributes:
        cloud: the cloud's name.
        site: this site's.
        host: the IP address that the node listens at, and that others find this site at.
        public_port: of the gateway, for clients.
        peer_port: of the gateway, for the other sites.
        mesh_port: of the node.
        tls: the directory of ca.pem, cert.pem, key.pem.
        data: a directory for the node's files.
        members_file: cards of sites that need no admission (JSON, a list).
        token_key: the public key of this site's tokens (PEM).
        time_file: where this site's services find the agreed time; None if there are none.
        distrusted: sites whose clocks don't count in it.
        sign: certifies a key for a site that joins, (request, name, host) -> certificate; None if the authority's key is not here.
        pace: of the probes.
        durable: what this site writes survives a loss of power.
    """

    cloud: str
    site: str
    host: str
    public_port: int
    peer_port: int
    mesh_port: int
    tls: Path
    data: Path
    members_file: Path
    token_key: str = ""
    time_file: Path | None = None
    distrusted: frozenset[str] = frozenset()
    sign: Callable[[str, str, str], str] | None = None
    pace: swim.Settings = field(default_factory=swim.Settings)
    durable: bool = True

    def card(self) -> Card:
        """This site's card.

        Raises:
            OSError: its certificate can't be read.
        """
        certificate = (self.tls / "cert.pem").read_text(encoding="ascii")
        return Card(self.site, self.host, self.public_port, self.peer_port, self.mesh_port, certificate, self.token_key)


class Mesh:
    """The node. To be made and used in one event loop.

    Args:
        options: what it is told.
        now_ms: the time of day.
        rng: for the order of probes.

    Attributes:
        site: this site's name.
        document: the replicated document.
    """

    def __init__(self, options: MeshOptions, now_ms: Callable[[], int] = _now_ms, rng: random.Random | None = None) -> None:
        self.site = options.site
        self._options = options
        tls, own = options.tls, options.card()
        authority_pem = (tls / "ca.pem").read_text(encoding="ascii")
        authority = x509.load_pem_x509_certificate(authority_pem.encode("ascii"))
        signer = Signer((tls / "key.pem").read_bytes())
        make_directory(options.data)
        clock = HybridClock(now_ms)
        self._store = Store(options.data / "document.db", durable=options.durable)
        self._invitations = Invitations(options.data / "invitations.db", now_ms, durable=options.durable)
        self._time = agreed_time.AgreedTime(lambda: now_ms() * 1_000_000, distrusted=options.distrusted)
        self._time_writer = agreed_time.Writer(options.time_file) if options.time_file else None
        self._roster = roster = Roster(options.cloud, own, authority)
        self.document = Document(
            self._store,
            self.site,
            signer,
            clock,
            self._author,
            rules(authority) | identity_rules(),
            partial(former, authority, self.site),
        )
        self._membership = Membership(roster, self.document, clock, signer, options.members_file)
        self._desk = Desk(
            options.cloud, own, authority_pem, signer, self._invitations, roster.cards, self._membership.admit, options.sign
        )  # fmt: skip
        self._conversation = Conversation(
            self.site,
            Envelopes(options.cloud, own.fingerprint, signer, roster.by_short, roster.fingerprint, os.urandom),
            self.document,
            self._membership,
            Tls(str(tls / "ca.pem"), str(tls / "cert.pem"), str(tls / "key.pem")),
            time=self._time,
            pace=options.pace,
            rng=rng or random.Random(),  # noqa: S311 - nothing secret comes of it
            on_change=self._tell,
            on_stranger=self._read_file,
            on_vouched=self._conclude,
        )
        self._apart = False
        self._tidier: asyncio.TimerHandle | None = None
        self._timekeeper: asyncio.TimerHandle | None = None
        self._clock_is_wrong = False
        self._told: dict[str, tuple[Card, State]] = {}
        self._on_members: list[Callable[[frozenset[str]], None]] = []

    # Its life

    async def start(self) -> None:
        """Listen, and begin to look for the others; it does not wait for any.

        Raises:
            zenoh.ZError: at the host and port nobody can listen.
        """
        self._tell_time()
        self._membership.read_file()
        self._membership.follow()
        self._apart = self.site in self._roster.left
        await self._conversation.start(self._options.host, self._options.mesh_port)
        self.document.on_change(self._on_records)
        self._membership.introduce()
        self._conclude()
        self._tidy_later()

    async def stop(self) -> None:
        """Be silent."""
        for timer in (self._tidier, self._timekeeper):
            if timer is not None:
                timer.cancel()
        await self._conversation.stop()
        if self._time_writer is not None:
            self._time_writer.close()
        self._invitations.close()
        self._store.close()

    # What is asked

    def members(self) -> dict[str, Member]:
        """All sites that were ever admitted, this one among them, by name."""
        return {name: Member(card, self._state(name), self.rtt_ms(name)) for name, card in sorted(self._roster.cards().items())}

    def reachable(self) -> list[str]:
        """The other sites that answer this one, nearest first."""
        names = [name for name in self._active() if self._conversation.reachable(name)]
        return sorted(names, key=lambda name: (self.rtt_ms(name) or 0.0, name))

    def rtt_ms(self, a: str, b: str | None = None) -> float | None:
        """The round trip between two sites in milliseconds, measured if it was, estimated by coordinates otherwise.

        Args:
            a: one site.
            b: the other; None for this one.

        Returns:
            None if too little is known.
        """
        return self._conversation.rtt_ms(a, self.site if b is None else b)

    def certificate_of(self, site: str) -> x509.Certificate | None:
        """Of a member; None if it is none, or none any more."""
        return self._roster.certificate(site) if self._roster.is_member(site) else None

    def site_of_fingerprint(self, fingerprint: str) -> str | None:
        """The member that shows a certificate with this SHA-256 (hexadecimal); None if none does, or it left or was revoked."""
        found = self._roster.by_fingerprint(fingerprint)
        if found is None and self._read_file():
            found = self._roster.by_fingerprint(fingerprint)
        return None if self._apart and found != self.site else found

    def status(self) -> dict[str, Any]:
        """How it stands, as JSON."""
        traffic = self._conversation.transport.traffic
        return {
            "site": self.site,
            "cloud": self._options.cloud,
            "members": [self._describe(member) for member in self.members().values()],
            "traffic": {"sent_bytes": traffic.sent, "received_bytes": traffic.received, "dropped": traffic.dropped},
            "refused": dict(self._conversation.refused),
            "document": self.document.size(),
            "clock_ahead_s": round(self._time.own_ahead_s(), 3),
        }

    # What is to be done

    def on_members(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Have `callback` called, in the event loop, with the names of the sites whose card or state has changed."""
        self._on_members.append(callback)

    def report(self, site: str, ok: bool) -> None:
        """What the gateway itself met: a request to a site succeeded or failed. After a failure the site is asked at once."""
        self._conversation.report(site, ok=ok)

    def reload(self) -> bool:
        """Read the file of members anew; False if it has not changed."""
        return self._read_file()

    def invite(self, name: str, lifetime_s: float = 3600.0) -> str:
        """A join token for a site that is to be called `name`.

        Raises:
            AtollError: `mesh.refused`.
        """
        return self._desk.invite(name, lifetime_s)

    def redeem(self, body: object) -> dict[str, Any]:
        """What is answered to a POST to `admission.PATH`.

        Args:
            body: its JSON, which may be hostile.

        Raises:
            AtollError: `join.refused`, `mesh.refused`.
        """
        return self._desk.redeem(body)

    async def revoke(self, site: str) -> None:
        """Shut a site out, for ever.

        Raises:
            AtollError: `site.unknown`, `mesh.refused`.
        """
        self._membership.revoke(site)

    async def leave(self, patience_s: float = 3.0) -> None:
        """Say that this site leaves, give those that can be reached a moment to hear it, and have nothing to do with them any more."""
        self._membership.leave()
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while loop.time() < until and (waiting := [name for name in self.reachable() if not self._conversation.equal(name)]):
            for name in waiting:
                self._conversation.probe(name)
            await asyncio.sleep(0.2)
        self._apart = True
        self._conclude()

    # Inside

    def _active(self) -> list[str]:
        """The other members that there is anything to do with."""
        roster = self._roster
        if self._apart:
            return []
        return [name for name in roster.cards() if name != self.site and roster.is_member(name) and name not in roster.left]

    def _state(self, name: str) -> State:
        if name in self._roster.revoked:
            return State.REVOKED
        if name in self._roster.left or (self._apart and name != self.site):
            return State.LEFT
        if name == self.site or self._conversation.reachable(name):
            return State.ALIVE
        return State.SUSPECT if self._conversation.doubtful(name) else State.UNREACHABLE

    def _describe(self, member: Member) -> dict[str, Any]:
        rtt = None if member.rtt_ms is None else round(member.rtt_ms, 3)
        card = {name: value for name, value in member.card.dump().items() if name not in {"certificate", "token_key"}}
        seen = {"state": str(member.state), "here": member.name == self.site, "rtt_ms": rtt, "fingerprint": member.fingerprint}
        return {**card, **seen, "linked": self._conversation.transport.linked(member.name), "equal": self._conversation.equal(member.name)}

    def _author(self, name: str) -> x509.Certificate | None:
        """The certificate of whoever wrote a part of the document: what a site wrote while it was a member remains."""
        found = self._roster.certificate(name)
        if found is None:
            self._conversation.unknown.add(name)
        return found

    def _on_records(self, touched: frozenset[tuple[str, str]]) -> None:
        if any(kind in KINDS for kind, _ in touched):
            self._membership.follow()
            self._conclude()

    def _read_file(self) -> bool:
        if not self._membership.read_file():
            return False
        self._conclude()
        return True

    def _tell_time(self) -> None:
        self._timekeeper = asyncio.get_running_loop().call_later(_TIME_S, self._tell_time)
        if self._time_writer is not None:
            self._time_writer.write(self._time.distance_ns())
        ahead_s = self._time.own_ahead_s()
        if (wrong := ahead_s != 0) != self._clock_is_wrong:
            self._clock_is_wrong = wrong
            if wrong:
                way = "ahead of" if ahead_s > 0 else "behind"
                _LOG.warning("this site's clock is %.1f s %s the other sites' clocks: set it right", abs(ahead_s), way)
            else:
                _LOG.warning("this site's clock agrees with the other sites' clocks again")

    def _tidy_later(self) -> None:
        self._tidier = asyncio.get_running_loop().call_later(_TIDY_S, self._tidy)

    def _tidy(self) -> None:
        self._tidy_later()
        if self._apart:
            return
        try:
            self.document.tidy(self._conversation.acknowledged())
        except (sqlite3.Error, Refused) as error:
            _LOG.warning("deleted records could not be made smaller now, which is tried again: %s", error)

    def _conclude(self) -> None:
        """Follow the roster: probe, and connect to, those who are members, and nobody else."""
        cards = self._roster.cards()
        self._conversation.follow({name: cards[name] for name in self._active()})
        self._tell()

    def _tell(self) -> None:
        now = {name: (card, self._state(name)) for name, card in self._roster.cards().items()}
        changed = frozenset(name for name in now.keys() | self._told.keys() if now.get(name) != self._told.get(name))
        self._told = now
        for callback in self._on_members if changed else ():
            try:
                callback(changed)
            except Exception:
                _LOG.exception("what was to follow a change of the members failed")
