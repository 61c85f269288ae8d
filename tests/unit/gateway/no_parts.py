"""Collaborators of a gateway that do nothing, for tests of the rest of it."""

from __future__ import annotations

from typing import Any

from atoll.gateway.gateway import Collaborators


class NoBringer:
    """Brings no resource, and knows no RBAC policy."""

    def __init__(self) -> None:
        self.policies = self

    async def refusal(self, _call: Any) -> None:
        """Refuse none of the requests."""

    async def ahead(self, _call: Any) -> None:
        """Bring nothing before the request is sent."""

    async def after(self, _call: Any) -> None:
        """Bring nothing after a refusal."""

    async def everywhere(self, _call: Any) -> None:
        """Refuse no change of copies."""

    async def site_for(self, _call: Any) -> None:
        """Name no site for an RBAC policy."""


class NoClashes:
    """Watches no names: each site keeps its own unique."""

    def __init__(self) -> None:
        self.names = self

    async def create(self, _call: Any, _names: Any, make: Any) -> Any:
        """Create the resource without asking for its name."""
        return await make()

    def refusal(self, _call: Any, _site: str) -> None:
        """Refuse none of the requests."""

    def mark(self, _call: Any, _route: Any, _reply: Any) -> None:
        """Leave the answer as it is."""

    def sites_for(self, _call: Any, _route: Any, everywhere: Any, _scope: Any) -> Any:
        """Return all sites, since no name clashes."""
        return everywhere

    def owner(self, _call: Any, _route: Any) -> None:
        """Return no owner, since no name clashes."""


class NoUnreachableServers:
    """Knows no server of a site that does not answer."""

    def concerns(self, _route: Any) -> bool:
        """Return False: no request is of interest."""
        return False

    def learn(self, *_answers: Any) -> None:
        """Remember none of the servers."""

    async def list(self, *_request: Any) -> Any:
        """Return none of the servers."""
        return []


class NoReplicas:
    """Knows no copies, and creates each resource at the first site of the first choice."""

    def __init__(self, create_at: Any) -> None:
        self.creator = self
        self._create_at = create_at

    async def create(self, call: Any, resource: Any, choices: Any, *_more: Any) -> Any:
        """Create the resource at one site."""
        return await self._create_at(choices[0][0], call, resource)

    async def answer(self, _request: Any, _clashes: Any) -> None:
        """Leave the request to the handler of single resources."""


def collaborators(**given: Any) -> Collaborators:
    """Return what a test gives, and for the rest doubles that do nothing."""
    parts: dict[str, Any] = {
        "bringer": NoBringer(),
        "clashes": NoClashes(),
        "unreachable": NoUnreachableServers(),
        "replicas": lambda create_at, _local: NoReplicas(create_at),
        "on_reply": lambda _call, _reply: None,
    }
    return Collaborators(**parts | given)
