"""The sites that share a database, as a gateway sees them: of each group, one site answers for the services that all of them share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

SHARED = frozenset({"compute", "network", "placement"})
"""The services whose resources the sites of a group share, besides Keystone, whose requests every site answers itself."""


class Groups:
    """The groups of sites that share a database.

    Args:
        here: this site.
        owners: the site that owns the database, for each site that shares one.
    """

    def __init__(self, here: str, owners: Mapping[str, str]) -> None:
        self._here = here
        self._owners = dict(owners)

    @property
    def shares(self) -> bool:
        """True if this site shares a database with others."""
        return self._here in self._owners

    def publisher(self, site: str) -> str:
        """Return the site that publishes the identity data of a site: the owner of its database, or the site itself."""
        return self._owners.get(site, site)

    def is_shared(self, site: str, service: str) -> bool:
        """Return whether a site and this one are two sites with the same resources of a service."""
        own = self._owners.get(self._here)
        return service in SHARED and site != self._here and own is not None and self._owners.get(site) == own

    def other_holders(self, sites: Sequence[str], service: str, near: Sequence[str]) -> list[str]:
        """Return sites without those whose resources of a service another of them, or this site, has too.

        Args:
            sites: other sites than this one.
            service: the service; empty for no certain one, which leaves the sites as they are.
            near: the sites that can be reached, the nearest first; of each group, the first of these answers.
        """
        if service not in SHARED or not self._owners:
            return list(sites)
        return [site for site in sites if not self.is_shared(site, service) and self._answers(site, sites, near)]

    def _answers(self, site: str, sites: Collection[str], near: Sequence[str]) -> bool:
        owner = self._owners.get(site)
        if owner is None:
            return True
        group = [each for each in (*near, *sorted(sites)) if self._owners.get(each) == owner]
        return group[0] == site

    def holders(self, sites: Iterable[str], service: str, near: Sequence[str]) -> list[str]:
        """Return the sites that answer for the given ones, each once: this site for those that share its database.

        Args:
            sites: sites of the cloud.
            service: the service of the request.
            near: as in `other_holders`.
        """
        named = list(dict.fromkeys(self._here if self.is_shared(site, service) else site for site in sites))
        others = self.other_holders([site for site in named if site != self._here], service, [site for site in near if site in named])
        return [site for site in named if site == self._here or site in others]
