"""Resources that can be used at their own site alone, and the check of other sites' claims to have one.

An external network is connected to the hardware of its site, so a copy at another site would have no connection. A compromised site must
not be able to make another site's network appear external, since every request that names the network would then be refused. So a site's
claim is valid only if the site speaks for the project that the other holders name as the owner (`identity.authority`), or if no other site
has the network. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atoll.gateway.bring.references import NETWORK, Action, Mention, Reference
from atoll.gateway.bring.service_client import RemoteResource
from atoll.gateway.bring.trust import SpeaksFor

_EXTERNAL = "it leads out of its own site: use an external network of {here}, or create what needs it at {site}"


def may_be_site_bound(mention: Mention) -> bool:
    """Return whether `is_site_bound` can be true for a reference; then the other sites must be asked before a resource is brought."""
    return mention.field.action is Action.REFUSE or mention.reference.kind == NETWORK


def is_site_bound(mention: Mention, found: Sequence[RemoteResource]) -> bool:
    """Return whether a resource that this site lacks is used at its own site alone.

    Args:
        mention: the field that names the resource.
        found: the credible descriptions of the sites that have it.
    """
    return mention.field.action is Action.REFUSE or any(is_external(mention.reference, each.body) for each in found)


def is_external(reference: Reference, body: Mapping[str, Any]) -> bool:
    """Return whether a resource is an external network."""
    return reference.kind == NETWORK and bool(body.get("router:external"))


def credible(reference: Reference, found: Sequence[RemoteResource], speaks_for: SpeaksFor) -> list[RemoteResource]:
    """Return the descriptions without those of sites that call a network external and have no right to say so.

    Args:
        reference: the resource.
        found: the sites that have it, nearest first.
        speaks_for: the trust in other sites.
    """
    return [each for each in found if not is_external(reference, each.body) or _is_credible(each, found, speaks_for)]


def _is_credible(claim: RemoteResource, found: Sequence[RemoteResource], speaks_for: SpeaksFor) -> bool:
    """Return whether a site speaks for every project that the other holders name as the owner; its own statement does not count."""
    return all(speaks_for(claim.site, str(each.body.get("project_id") or "")) for each in found if each is not claim)


def refusal_text(mention: Mention, found: Sequence[RemoteResource], here: str) -> str:
    """Return a sentence with the site of a site-bound resource, and with an alternative for the client.

    Args:
        mention: the field that names the resource.
        found: the sites that have it; at least one.
        here: this site.
    """
    external = next((each for each in found if is_external(mention.reference, each.body)), None)
    site = (external or found[0]).site
    what = f"external {mention.reference}" if external else str(mention.reference)
    hint = _EXTERNAL if external else mention.field.hint
    return f"{what} is at {site} and can't be used at {here}" + (f": {hint.format(here=here, site=site)}" if hint else "")
