"""Give a project's security group `default` the same rules at all sites.

Each site's Neutron creates the group when a user of the project first asks for groups or creates a port, under the same id everywhere and
with rules of the same ids (`services.patches.neutron.default_groups`). The gateways make later changes at all sites. A site whose Neutron
creates the group after such a change has the initial rules only. So before a site first uses the group of a project, its gateway gives it
the rules that the other sites have. If these differ, it gets the rules that all of them have, and `atoll conflicts` lists the group: so no
site allows traffic that another site's group denies. The rules of a site with `trust: local-admin` are ignored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from atoll.gateway.bring import network
from atoll.gateway.bring.descriptions import Description
from atoll.gateway.bring.holders import Holders
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.references import SECURITY_GROUP
from atoll.gateway.bring.service_client import RemoteResource, ServiceClient
from atoll.gateway.bring.undo import UndoLog
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites
from atoll.identifiers import default_group

if TYPE_CHECKING:
    from atoll.gateway.bring.context import BringContext

LOG = logging.getLogger(__name__)

AGAIN_S = 30.0
"""Seconds after which the other sites are asked again if some of them were unreachable."""

KIND = "default security group"
"""Kind of a ledger entry with a project's id: this site's group has been compared with those of the other sites."""


class DefaultGroups:
    """The groups `default` of this site.

    Args:
        sites: sends requests to the sites.
        ledger: records the groups that have been compared with those of the other sites.
        holders: asks the other sites for their groups.
        conflicts: records that the sites' rules differ.
        limited: the sites whose rules are ignored.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders, conflicts: Conflicts, limited: Collection[str] = ()) -> None:
        self._conflicts = conflicts
        self._limited = frozenset(limited)
        self._sites = sites
        self._ledger = ledger
        self._holders = holders
        self._adopted: set[str] = set()
        self._tried: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def adopt(
        self, project: str, client: ServiceClient, undo_log: UndoLog, context: BringContext, besides: Collection[str] = ()
    ) -> None:
        """Make sure that a project's group has the rules here that it has at other sites; once for each project.

        Args:
            project: the project's id.
            client: the client of the request that is about to use the group.
            undo_log: records groups that are brought because a rule names them.
            context: the parts that bringing needs.
            besides: ids of rules that the request itself creates; another site may already have them by the same request.

        Raises:
            BringRefused: a rule names a resource that can't be brought.
            BringFailed: Neutron refuses.
            Unreachable: this site's Neutron does not answer.
        """
        if self.known(project):
            return
        async with self._locks.setdefault(project, asyncio.Lock()):
            now = asyncio.get_running_loop().time()
            if project in self._adopted or now - self._tried.get(project, -AGAIN_S) < AGAIN_S:
                return
            if await self._compare(project, client, undo_log, context, besides):
                self._ledger.bring(KIND, project, self._sites.here)
                self._adopted.add(project)
                self._tried.pop(project, None)
                self._locks.pop(project, None)
            else:
                self._tried[project] = now

    def known(self, project: str) -> bool:
        """Return whether a project's group has been compared with those of the other sites."""
        if project in self._adopted:
            return True
        if self._ledger.is_brought(KIND, project):
            self._adopted.add(project)
        return project in self._adopted

    async def _compare(
        self, project: str, client: ServiceClient, undo_log: UndoLog, context: BringContext, besides: Collection[str]
    ) -> bool:
        """Give a project's group the rules of the other sites; return False if an unreachable site may have further rules."""
        missing = set(self._sites.others("network")) - set(self._sites.reachable("network"))
        elsewhere = await self._holders.elsewhere(SECURITY_GROUP, default_group(project))
        changed = [each for each in elsewhere if self._is_compared(each, project)]
        if changed:
            # Neutron creates the group when it is asked for groups.
            query = urlencode({"id": default_group(project), "project_id": project})
            own = ServiceClient(self._sites, await self._sites.own_token("network"), client.request_id)
            answer = await own.get(self._sites.here, "network", f"/v2.0/security-groups?{query}")
            for group in (answer or {}).get("security_groups", ()):
                if _changes(group) <= 1:
                    await self._take_over(client, group, self._agreed(changed, besides), undo_log, context)
        return not missing or bool(changed)

    def _is_compared(self, group: Description, project: str) -> bool:
        """Return whether another site's group is to be compared: it belongs to the project, was changed there, and the site is trusted."""
        return group.body.get("project_id") == project and _changes(group.body) > 1 and group.site not in self._limited

    def _agreed(self, changed: Sequence[Description], besides: Collection[str]) -> Description:
        """Return one of the groups with the rules that all of them have."""
        rules = [{rule["id"]: rule for rule in each.body["security_group_rules"] if rule["id"] not in besides} for each in changed]
        common = set.intersection(*map(set, rules))
        if any(set(each) != common for each in rules):
            sites = [each.site for each in changed]
            why = f"{', '.join(sites)} have different rules in it; {self._sites.here} has taken those that all of them have"
            self._conflicts.note(SECURITY_GROUP, str(changed[0].body["id"]), sites, why)
        body = {**changed[0].body, "security_group_rules": [rule for name, rule in rules[0].items() if name in common]}
        return replace(changed[0], body=body)

    async def _take_over(
        self, client: ServiceClient, group: Mapping[str, Any], other: Description, undo_log: UndoLog, context: BringContext
    ) -> None:
        mine = {rule["id"] for rule in group["security_group_rules"]}
        theirs = {rule["id"]: rule for rule in other.body["security_group_rules"]}
        LOG.info("%s: security group %s gets the rules that it has at %s", client.request_id, group["id"], other.site)
        new = [theirs[name] for name in sorted(theirs.keys() - mine)]
        named = await network.named_groups(client, other.site, {**group, "security_group_rules": new})
        await network.bring_security_groups(client, RemoteResource(other.site, named), undo_log, context)
        for name in sorted(mine - theirs.keys()):
            await client.make("DELETE", "network", f"/v2.0/security-group-rules/{segment(name)}", gone=True)
        if new:
            rules = [network.copied(rule, "security_group_rules") for rule in new]
            await client.make("POST", "network", "/v2.0/security-group-rules", {"security_group_rules": rules}, exists=True)


def _changes(group: Mapping[str, Any]) -> int:
    """Return the revision number of a group, which is 1 when it is new."""
    return int(group.get("revision_number") or 0)
