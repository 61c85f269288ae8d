"""Withdraws loans: tells other sites that a grant of this site has ended on which their grants on copies depend.

A loan is recorded when another site asks (`holders`). Each write at this site that concerns a lent resource, and a periodic check of all
loans, compares the loans with the present grants of the site's services. A loan that has ended stays in the ledger until its borrower has
revoked the grant, however long the borrower is cut off. Nothing is sent for resources that are not lent.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from datetime import UTC, datetime
from typing import Any

from atoll.gateway.bring.holders import RBAC, Holders
from atoll.gateway.bring.ledger import Ledger, Loan
from atoll.gateway.bring.service_client import MAKE_S, ServiceClient
from atoll.gateway.request.call import GATEWAY, Call, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

LOOK_S = 60.0
"""Seconds between two checks of all loans: a grant may also end without a request to the gateway. A check asks this site's services
only."""

AGAIN_S = 5.0
"""Seconds until an unanswered withdrawal is sent again."""

_ITEM = re.compile(r"/v2(?:\.[01])?(?:/[0-9a-f]{32})?/(?:images|flavors|networks|security-groups)/([^/]+)")
_POLICIES = re.compile(r"/v2\.0/rbac-policies(?:\.json)?(?:/|$)")


class Loans:
    """The loans of this site, and the withdrawal of those that have ended.

    Args:
        sites: sends requests to the sites.
        ledger: records the loans.
        holders: describes this site's resources.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders) -> None:
        self._sites = sites
        self._ledger = ledger
        self._holders = holders
        self._touched: set[tuple[str, str]] = set()
        self._wake = asyncio.Event()
        self._errors: dict[Loan, str] = {}

    def on_write(self, call: Call) -> None:
        """Schedule a check of the lent resources that a write may concern.

        Args:
            call: a write that a service of this site has carried out.
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
        """Send the waiting withdrawals now, since a site may be reachable again; a callback for `Mesh.on_members`."""
        self._wake.set()

    def list(self) -> list[dict[str, Any]]:
        """Return the withdrawals whose borrower has not been reached yet, as values for JSON in the form of `Pending.list`."""
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

    async def look(self, resources: frozenset[tuple[str, str]]) -> None:
        """Compare the loans of some resources with this site's present grants.

        Args:
            resources: kind and id of each resource.
        """
        for kind, identifier in sorted(resources):
            for loan in self._ledger.loans(kind, identifier):
                try:
                    found = await self._holders.here(kind, identifier, loan.project)
                except Unreachable as error:
                    LOG.warning("can't check whether %s %s is still shared: %s", kind, identifier, error)
                    self._touched.add((kind, identifier))
                    return
                if found is None or not found.granted:
                    self._ledger.end(loan, "it was deleted" if found is None else "its owner has revoked it", time.time())
                elif loan.ended:
                    self._ledger.lend(loan._replace(ended="", since=0.0))

    async def send(self) -> None:
        """Tell the reachable borrowers which loans have ended."""
        there = set(self._sites.reachable())
        ended = [loan for loan in self._ledger.loans() if loan.ended and loan.borrower in there]
        await asyncio.gather(*map(self._tell, ended))

    async def _tell(self, loan: Loan) -> None:
        call = ServiceClient(self._sites, "", request_id(None)).call(
            "POST", GATEWAY, "/withdrawals", "", {"kind": loan.kind, "id": loan.id, "project": loan.project}
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
