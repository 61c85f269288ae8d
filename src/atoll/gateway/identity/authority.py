"""How far another member's word counts in this gateway, by `trust` and `homed` of the cloud's YAML, as it does in identity."""

from __future__ import annotations

from atoll.mesh.identity.homes import Entries, Homes, Policy
from atoll.mesh.identity.tables import PREFIX, encode


class Authority:
    """Knows which members may speak for which projects and users.

    Args:
        document: has the projects and users.
        policy: what the YAML says.
    """

    def __init__(self, document: Entries, policy: Policy) -> None:
        self._policy = policy
        self._homes = Homes(document, policy)

    def speaks_for(self, site: str, project: str, user: str = "") -> bool:
        """Return whether a site may say something that has consequences for a project at other sites.

        A site with `trust: local-admin` may for projects that are homed at it: elsewhere it must not delete a project's thing with another
        gateway's rights, nor keep one from being deleted by saying that it is in use.

        Args:
            site: the site that says so.
            project: the project's id; empty if it is not known.
            user: the id of the user in whose name it speaks, who must be homed there too; empty if it speaks for the whole project.
        """
        if site not in self._policy.limited or site == self._policy.here:
            return True
        return bool(project) and self._is_home("project", project, site) and (not user or self._is_home("user", user, site))

    def _is_home(self, kind: str, identifier: str, site: str) -> bool:
        homes = self._homes.homes_of(PREFIX + kind, encode([identifier]))
        return homes is not None and site in homes
