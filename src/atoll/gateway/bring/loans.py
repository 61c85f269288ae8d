"""Tells the other sites when a grant of this site, on whose word they granted the same on their copies, has ended.

A loan is noted when another site asks (`holders`). Each write at this site that concerns a lent thing, and a look at all loans from time
to time, compares the loans with what the site's services say now. A loan that has ended stays in the ledger until its borrower has taken
the grant back, also if it is cut off at first. Nothing is sent for things that are not lent.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from datetime import UTC, datetime
from typing import Any

from atoll.gateway.bring.asking import MAKE_S, Asker
from atoll.gateway.bring.holders import RBAC, Holders
from atoll.gateway.bring.ledger import Ledger, Loan
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

LOOK_S = 60.0
"""Seconds between two looks at all loans: a grant may also end past the gateway. The look asks this site's own services only."""

AGAIN_S = 5.0
"""Seconds until a withdrawal is sent again."""

_ITEM = re.compile(r"/v2(?:\.[01])?(?:/[0-9a-f]{32})?/(?:images|flavors|networks|security-groups)/([^/]+)")
_POLICIES = re.compile(r"/v2\.0/rbac-policies(?:\.json)?(?:/|$)")


class Loans:
    """Follows the loans of one site.

    Args:
        sites: the sites.
        ledger: the loans.
        holders: describes what this site holds.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders) -> None:
        self._sites = sites
        self._ledger = ledger
        self._holders = holders
        self._touched: set[tuple[str, str]] = set()
        self._wake = asyncio.Event()
        self._errors: dict[Loan, str] = {}

    def on_write(self, call: Call) -> None:
        """Note a write that a service of this site has carried out; look again at what is lent and may be concerned.

        Args:
            call: any request but a reading one.
        """
        lent = self._ledger.lent()
        if not lent:
            return
        if _POLICIES.match(call.path):
            touched = {each for each in lent if each[0] in RBAC}
        elif item := _ITEM.match(call.path):
            name = item[1].removesuffix(".json")
            touched = {each for each in lent if each[1] == name}
        else:
            return
        if touched:
            self._touched |= touched
            self._wake.set()

    def wake(self, *_ignored: object) -> None:
        """Send at once what waits, since a site may have come back; fit for `Mesh.on_members`."""
        self._wake.set()

    def list(self) -> list[dict[str, Any]]:
        """Withdrawals that wait for their site, for JSON: in the form of `Pending.list`."""
        return [
            {
                "site": loan.borrower,
                "what": f"stop sharing {loan.kind} {loan.id} with project {loan.project}",
                "since": datetime.fromtimestamp(loan.since, UTC).isoformat(timespec="seconds"),
                "attempts": 0,
                "error": self._errors.get(_key(loan), loan.ended),
            }
            for loan in self._ledger.loans()
            if loan.ended
        ]

    def forget(self, site: str) -> None:
        """Forget the loans of a site that has left or was revoked."""
        self._ledger.forget_site(site)

    async def run(self) -> None:
        """Follow the loans, until cancelled."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            self._wake.clear()
            everything = loop.time() - looked >= LOOK_S
            if everything:
                looked = loop.time()
            touched, self._touched = (self._ledger.lent() if everything else frozenset(self._touched)), set()
            await self.look(touched)
            await self.send()
            waiting = any(loan.ended for loan in self._ledger.loans())
            try:
                async with asyncio.timeout(AGAIN_S if waiting else LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self, things: frozenset[tuple[str, str]]) -> None:
        """Compare the loans of some things with what this site grants now.

        Args:
            things: kind and id of each.
        """
        for kind, identifier in sorted(things):
            for loan in self._ledger.loans(kind, identifier):
                try:
                    found = await self._holders.here(kind, identifier, loan.project)
                except Unreachable as error:
                    LOG.warning("whether %s %s is still shared can't be seen: %s", kind, identifier, error)
                    self._touched.add((kind, identifier))
                    return
                if found is None or not found.granted:
                    self._ledger.end(loan, "it is gone" if found is None else "its owner has taken it back", time.time())
                elif loan.ended:
                    self._ledger.lend(loan._replace(ended="", since=0.0))

    async def send(self) -> None:
        """Tell the sites that can be reached of the loans that have ended."""
        there = set(self._sites.reachable())
        ended = [loan for loan in self._ledger.loans() if loan.ended and loan.borrower in there]
        await asyncio.gather(*map(self._tell, ended))

    async def _tell(self, loan: Loan) -> None:
        call = Asker(self._sites, "", request_id(None)).call(
            "POST", "atoll", "/withdrawals", "", {"kind": loan.kind, "id": loan.id, "project": loan.project}
        )
        try:
            reply = await self._sites.send(loan.borrower, call, MAKE_S)
        except Unreachable as error:
            self._errors[_key(loan)] = error.why
            return
        if reply.ok:
            self._errors.pop(_key(loan), None)
            self._ledger.settle(loan)
            LOG.info("%s: %s %s is no longer shared with project %s", loan.borrower, loan.kind, loan.id, loan.project)
        else:
            self._errors[_key(loan)] = f"HTTP {reply.status}: {reply.body[:200].decode(errors='replace')}"


def _key(loan: Loan) -> Loan:
    return Loan(loan.kind, loan.id, loan.project, loan.borrower)
