"""A site's node of the mesh: keeps the members, their reachability and distance, and the replicated document.

The node runs in one event loop, and never waits for another site: writes that can't be sent now are sent when the site can be reached.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509

from atoll.files import make_directory
from atoll.mesh import agreed_time, swim
from atoll.mesh.admission import Invitations, InvitationService
from atoll.mesh.clock import HybridClock
from atoll.mesh.document import Document
from atoll.mesh.envelope import Envelopes
from atoll.mesh.members import Card, Member, MemberState, Roster
from atoll.mesh.membership import KINDS, Membership, former, rules
from atoll.mesh.peer_protocol import PeerProtocol
from atoll.mesh.record import Rule
from atoll.mesh.refusals import Refused
from atoll.mesh.signing import Signer
from atoll.mesh.store import Store
from atoll.mesh.transport import MakeTransport, Transport
from atoll.zenoh_link.config import Tls

_LOG = logging.getLogger(__name__)

_TIDY_S = 30.0
"""Seconds between two searches for deleted records that can be reduced."""

_TIME_S = 1.0
"""Seconds between two checks of this site's own clock."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class MeshOptions:
    """The settings of a node.

    Attributes:
        cloud: the cloud's name.
        site: this site's name.
        host: the IP address at which the node listens, and where other sites reach this one.
        public_port: the port of the gateway for clients.
        peer_port: the port of the gateway for other sites.
        mesh_port: the port of the node.
        tls: the directory of ca.pem, cert.pem, key.pem.
        data: a directory for the node's files.
        members_file: cards of sites that need no admission (JSON, a list).
        token_key: the public key of this site's tokens (PEM).
        time_file: the file of the agreed time for this site's services; `None` for none.
        distrusted: sites whose clocks are ignored for the agreed time.
        sign: certifies a key for a joining site, (request, name, host) -> certificate; `None` if the authority's key is not here.
        pace: the pace of the probes.
        durable: flush this site's writes to the disk, so that they survive a loss of power.
        rules: by kind, the rules for records that the mesh replicates for other packages and does not interpret.
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
    pace: swim.SwimSettings = field(default_factory=swim.SwimSettings)
    durable: bool = True
    rules: Mapping[str, Rule] = field(default_factory=dict)

    def card(self) -> Card:
        """Return this site's card.

        Raises:
            OSError: the site's certificate can't be read.
        """
        certificate = (self.tls / "cert.pem").read_text(encoding="ascii")
        return Card(self.site, self.host, self.public_port, self.peer_port, self.mesh_port, certificate, self.token_key)


class Mesh:
    """The node. It is created and used in one event loop.

    Args:
        options: the node's settings.
        now_ms: the time of day, in milliseconds since 1970.
        rng: source of the random order of probes.
        make_transport: constructs the links to other sites.

    Attributes:
        site: this site's name.
        document: the replicated document.
    """

    def __init__(
        self,
        options: MeshOptions,
        now_ms: Callable[[], int] = _now_ms,
        rng: random.Random | None = None,
        make_transport: MakeTransport = Transport,
    ) -> None:
        self.site = options.site
        self._options = options
        tls, own = options.tls, options.card()
        authority_pem = (tls / "ca.pem").read_text(encoding="ascii")
        authority = x509.load_pem_x509_certificate(authority_pem.encode("ascii"))
        signer = Signer((tls / "key.pem").read_bytes())
        make_directory(options.data)
        clock = HybridClock(now_ms)
        self._store = Store(options.data / "document.db", durable=options.durable)
        self._time = agreed_time.AgreedTime(lambda: now_ms() * 1_000_000, distrusted=options.distrusted)
        self._invitations = Invitations(options.data / "invitations.db", self._time.now_ms, durable=options.durable)
        self._time_writer = agreed_time.TimeWriter(options.time_file) if options.time_file else None
        self._roster = roster = Roster(options.cloud, own, authority)
        self.document = Document(
            self._store,
            self.site,
            signer,
            clock,
            self._author,
            {**options.rules, **rules(authority)},
            partial(former, authority, self.site),
        )
        self._membership = Membership(roster, self.document, clock, signer, options.members_file)
        self._invitation_service = InvitationService(
            options.cloud, own, authority_pem, signer, self._invitations,
            roster.cards, roster.is_active, self._membership.admit, options.sign,
        )  # fmt: skip
        self._protocol = self._make_protocol(own, signer, rng or random.Random(), make_transport)  # noqa: S311 - it makes no secrets
        self._apart = False
        self._tidier: asyncio.TimerHandle | None = None
        self._timekeeper: asyncio.TimerHandle | None = None
        self._clock_is_wrong = False
        self._notified: dict[str, tuple[Card, MemberState]] = {}
        self._on_members: list[Callable[[frozenset[str]], None]] = []

    def _make_protocol(self, own: Card, signer: Signer, rng: random.Random, make_transport: MakeTransport) -> PeerProtocol:
        tls = self._options.tls
        return PeerProtocol(
            self.site,
            Envelopes(self._options.cloud, own.fingerprint, signer, self._roster.by_short, self._roster.fingerprint, os.urandom),
            self.document,
            self._membership,
            Tls(str(tls / "ca.pem"), str(tls / "cert.pem"), str(tls / "key.pem")),
            time=self._time,
            pace=self._options.pace,
            rng=rng,
            on_change=self._notify,
            on_stranger=self._read_file,
            on_vouched=self._conclude,
            make_transport=make_transport,
        )

    # Start and stop

    async def start(self) -> None:
        """Listen, and begin to look for the other sites, without waiting for any.

        Raises:
            zenoh.ZError: the host and port can't be bound.
        """
        self._write_time()
        self._membership.read_file()
        self._membership.follow()
        self._apart = self.site in self._roster.left
        await self._protocol.start(self._options.host, self._options.mesh_port)
        self.document.on_change(self._on_records)
        self._membership.introduce()
        self._conclude()
        self._tidy_later()

    async def stop(self) -> None:
        """Stop sending and receiving, and close the files."""
        for timer in (self._tidier, self._timekeeper):
            if timer is not None:
                timer.cancel()
        await self._protocol.stop()
        if self._time_writer is not None:
            self._time_writer.close()
        self._invitations.close()
        self._store.close()

    # Queries

    def members(self) -> dict[str, Member]:
        """Return all sites that were ever admitted, including this one, by name."""
        return {name: Member(card, self._state(name), self.rtt_ms(name)) for name, card in sorted(self._roster.cards().items())}

    def reachable(self) -> list[str]:
        """Return the other sites that answer this one, nearest first."""
        names = [name for name in self._active() if self._protocol.reachable(name)]
        rtts = {name: self.rtt_ms(name) for name in names}
        return sorted(names, key=lambda name: (math.inf if (rtt := rtts[name]) is None else rtt, name))

    def reaches(self, site: str) -> bool:
        """Return whether another site counts as reachable from this one."""
        return self._protocol.reachable(site)

    def neighbours(self) -> list[str]:
        """Return the sites to which this one keeps links: all others, but in a large cloud."""
        return self._protocol.neighbours()

    def rtt_ms(self, site: str, other: str | None = None) -> float | None:
        """Return the round trip between two sites in milliseconds, measured or else estimated by coordinates.

        Args:
            site: one site.
            other: the other site; `None` for this one.

        Returns:
            `None` if the round trip can be neither measured nor estimated.
        """
        return self._protocol.rtt_ms(site, self.site if other is None else other)

    def certificate_of(self, site: str) -> x509.Certificate | None:
        """Return the certificate of a member; `None` for any other site."""
        return self._roster.certificate(site) if self._roster.is_member(site) else None

    def site_of_fingerprint(self, fingerprint: str) -> str | None:
        """Return the present member whose certificate has this SHA-256 (hexadecimal); `None` if there is no such member."""
        found = self._roster.by_fingerprint(fingerprint)
        if found is None and self._read_file():
            found = self._roster.by_fingerprint(fingerprint)
        return None if self._apart and found != self.site else found

    def status(self) -> dict[str, Any]:
        """Return the state of the mesh, as JSON."""
        traffic = self._protocol.transport.traffic
        return {
            "site": self.site,
            "cloud": self._options.cloud,
            "members": [self._describe(member) for member in self.members().values()],
            "traffic": {"sent_bytes": traffic.sent, "received_bytes": traffic.received, "dropped": traffic.dropped},
            "refused": dict(self._protocol.refused),
            "document": self.document.size(),
            "clock_ahead_s": round(self._time.own_ahead_s(), 3),
        }

    # Actions

    def on_members(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Call `callback`, in the event loop, with the names of the sites whose card or state has changed."""
        self._on_members.append(callback)

    def report(self, site: str, ok: bool) -> None:
        """Record that a request of the gateway to a site succeeded or failed. After a failure the site is probed immediately."""
        self._protocol.report(site, ok=ok)

    def reload(self) -> bool:
        """Read the file of members again; return False if it has not changed."""
        return self._read_file()

    def invite(self, name: str, lifetime_s: float = 3600.0) -> str:
        """Return a join token for a site named `name`.

        Raises:
            AtollError: `mesh.refused`: as for `InvitationService.invite`.
        """
        return self._invitation_service.invite(name, lifetime_s)

    def redeem(self, body: object) -> dict[str, Any]:
        """Return the answer to a POST to `admission.PATH`.

        Args:
            body: the JSON of the request, which may be hostile.

        Raises:
            AtollError: `join.refused`, `mesh.refused`.
        """
        return self._invitation_service.redeem(body)

    async def revoke(self, site: str) -> None:
        """Revoke a site, for ever.

        Raises:
            AtollError: `site.unknown`, `mesh.refused`.
        """
        self._membership.revoke(site)

    async def leave(self, patience_s: float = 3.0) -> None:
        """Publish that this site leaves, wait at most `patience_s` seconds until the reachable sites know it, and drop all links."""
        self._membership.leave()
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while loop.time() < until and (waiting := self._unequal()):
            for name in waiting:
                self._protocol.probe(name)
            await asyncio.sleep(0.2)
        self._apart = True
        self._conclude()

    # Internal

    def _unequal(self) -> list[str]:
        """Return the reachable sites with a link from here whose documents differ from this site's."""
        return [name for name in self._protocol.neighbours() if self._protocol.reachable(name) and not self._protocol.equal(name)]

    def _active(self) -> list[str]:
        """Return the other members to exchange messages with."""
        roster = self._roster
        if self._apart:
            return []
        return [name for name in roster.cards() if name != self.site and roster.is_active(name)]

    def _state(self, name: str) -> MemberState:
        if name in self._roster.revoked:
            return MemberState.REVOKED
        if name in self._roster.left or (self._apart and name != self.site):
            return MemberState.LEFT
        if name == self.site or self._protocol.reachable(name):
            return MemberState.ALIVE
        return MemberState.SUSPECT if self._protocol.doubtful(name) else MemberState.UNREACHABLE

    def _describe(self, member: Member) -> dict[str, Any]:
        rtt = None if member.rtt_ms is None else round(member.rtt_ms, 3)
        card = {name: value for name, value in member.card.dump().items() if name not in {"certificate", "token_key"}}
        seen = {"state": str(member.state), "here": member.name == self.site, "rtt_ms": rtt, "fingerprint": member.fingerprint}
        return {**card, **seen, "linked": self._protocol.transport.linked(member.name), "equal": self._protocol.equal(member.name)}

    def _author(self, name: str) -> x509.Certificate | None:
        """Return the certificate of an author of the document: the entries of a former member remain valid."""
        found = self._roster.certificate(name)
        if found is None:
            self._protocol.unknown.add(name)
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

    def _write_time(self) -> None:
        self._timekeeper = asyncio.get_running_loop().call_later(_TIME_S, self._write_time)
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
            self.document.tidy(self._protocol.acknowledged())
        except (sqlite3.Error, Refused) as error:
            _LOG.warning("deleted records could not be reduced; trying again: %s", error)

    def _conclude(self) -> None:
        """Follow the roster: probe its members and connect to them, and to nobody else."""
        cards = self._roster.cards()
        self._protocol.follow({name: cards[name] for name in self._active()})
        self._notify(cards.keys() | self._notified.keys())

    def _notify(self, names: Collection[str]) -> None:
        """Call the callbacks with those of the sites whose card or state has changed."""
        cards, changed = self._roster.cards(), set()
        for name in names:
            now = (card, self._state(name)) if (card := cards.get(name)) is not None else None
            if now == self._notified.get(name):
                continue
            changed.add(name)
            if now is None:
                del self._notified[name]
            else:
                self._notified[name] = now
        for callback in self._on_members if changed else ():
            try:
                callback(frozenset(changed))
            except Exception:
                _LOG.exception("a callback for a change of the members failed")
