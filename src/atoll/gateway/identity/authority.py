"""Decides which statements of other members to believe, by `trust` and `homed` of the cloud's YAML; see also `atoll.identity.trust`."""

from __future__ import annotations

from atoll.identity.tables import PREFIX, encode
from atoll.identity.trust import EntrySource, TrustedRecords, TrustPolicy


class Authority:
    """The projects and users for which each member may speak.

    Args:
        document: the replicated document, with the projects and users.
        policy: `trust` and `homed` of the YAML.
    """

    def __init__(self, document: EntrySource, policy: TrustPolicy) -> None:
        self.limited = policy.limited - {policy.here}
        self._homes = TrustedRecords(document, policy)

    def speaks_for(self, site: str, project: str, user: str = "") -> bool:
        """Return whether a site may make a statement that has consequences for a project at other sites.

        A site with `trust: local-admin` may do so for projects that are homed at it. For other projects, it must not delete a resource with
        another gateway's rights, nor keep one from being deleted by calling it in use.

        Args:
            site: the site that makes the statement.
            project: the project's id; empty if unknown.
            user: the id of the user in whose name the site speaks, who must be homed there too; empty if it speaks for the whole project.
        """
        if site not in self.limited:
            return True
        return bool(project) and self._is_home("project", project, site) and (not user or self._is_home("user", user, site))

    def _is_home(self, kind: str, identifier: str, site: str) -> bool:
        homes = self._homes.homes_of(PREFIX + kind, encode([identifier]))
        return homes is not None and site in homes
