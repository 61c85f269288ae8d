"""Finds the images at other sites that may be the base of an overlay.

Each site's Glance is asked with the user's token, so that it answers with images that the user can read there. The answer is a claim: a
property of the image names the base, and the owner of the image chooses its properties. The site that makes the server computes the digest
from the data before it uses them. This module drops claims that would only waste a transfer, or take the place of a correct one: a site
whose trust is limited is asked only about images of projects for which it speaks, and only if the project is the caller's or the overlay
owner's.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.bring.trust import MemberTrust
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.paths import is_uuid
from atoll.overlay_images import BASE, BASE_IMAGE, DIGEST, MACHINE

LOG = logging.getLogger(__name__)

MOST_LISTED = 50
"""Greatest number of images that a site is asked for."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WantedBase:
    """A base that an overlay needs.

    Attributes:
        digest: the digest of the base, from a property of the overlay.
        hint: the id of an image that is the base, from another property; may be empty.
        owner: the project that owns the overlay.
        project: the caller's project.
    """

    digest: str
    hint: str
    owner: str
    project: str


@dataclass(frozen=True)
class Claim:
    """An image that a site calls a base.

    Attributes:
        site: the site.
        image: the id of the image.
        owner: the project that owns the image.
        public: whether everybody can use the image.
        size: bytes of its data.
        hash: the algorithm and the hash of its data; empty if the site does not tell it.
        machine: the machine type of the base; may be empty.
    """

    site: str
    image: str
    owner: str
    public: bool
    size: int = 0
    hash: str = ""
    machine: str = ""


def wanted_base(overlay: Mapping[str, Any], project: str) -> WantedBase | None:
    """Return the base that an image needs; `None` if the image is not an overlay, or the property that marks it as one is malformed.

    Args:
        overlay: the image, as this site's Glance shows it to the caller.
        project: the caller's project.
    """
    digest = overlay.get(BASE)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return None
    return WantedBase(digest, str(overlay.get(BASE_IMAGE, "")), str(overlay.get("owner") or ""), project)


async def claims_of(client: ServiceClient, site: str, wanted: WantedBase) -> list[Claim]:
    """Return the images of a site that the user can read and that claim to be a base.

    Raises:
        Unreachable: the site does not answer, or its answer is malformed.
    """
    query = urlencode({DIGEST: wanted.digest, "status": "active", "limit": MOST_LISTED})
    try:
        found = await client.get(site, "image", f"/v2/images?{query}")
        images = islice((found or {}).get("images", ()), MOST_LISTED)
        return [claim for image in images if (claim := _claim(site, image, wanted)) is not None]
    except (ValueError, TypeError, AttributeError) as error:
        raise Unreachable(site, "its list of images is malformed") from error


async def claims_elsewhere(client: ServiceClient, wanted: WantedBase, trust: MemberTrust) -> tuple[list[Claim], list[str]]:
    """Return the accepted claims of the other sites, the best first, and the sites that could not be asked.

    Args:
        client: sends requests with the user's token.
        wanted: the base.
        trust: the trust in the other sites.
    """
    sites = client.sites.reachable()
    answers = await asyncio.gather(*(claims_of(client, site, wanted) for site in sites), return_exceptions=True)
    away = set(client.sites.others()) - set(sites)
    accepted: list[Claim] = []
    for site, answer in zip(sites, answers, strict=True):
        if isinstance(answer, Unreachable):
            LOG.info("%s: %s can't be asked for a base: %s", client.request_id, site, answer)
            away.add(site)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            accepted += [claim for claim in answer if _is_accepted(claim, wanted, trust)]
    return ranked(accepted, wanted), sorted(away)


def ranked(claims: Sequence[Claim], wanted: WantedBase) -> list[Claim]:
    """Return claims in the order in which they are tried: the caller's own images, the overlay owner's, the hinted one, public ones.

    Args:
        claims: the claims, of the nearest site first. Of several claims about one image, the first is kept.
        wanted: the base.
    """
    first: dict[str, Claim] = {}
    for claim in claims:
        first.setdefault(claim.image, claim)

    def rank(claim: Claim) -> tuple[bool, ...]:
        return claim.owner != wanted.project, claim.owner != wanted.owner, claim.image != wanted.hint, not claim.public

    return sorted(first.values(), key=rank)


def unused(claims: Sequence[Claim], wrong: Collection[str]) -> list[Claim]:
    """Return the claims about images whose data have not been found to be something else."""
    return [claim for claim in claims if claim.image not in wrong]


def _claim(site: str, image: Mapping[str, Any], wanted: WantedBase) -> Claim | None:
    identifier, owner = image.get("id"), image.get("owner")
    if image.get(DIGEST) != wanted.digest or image.get("status") != "active":
        return None
    if not isinstance(identifier, str) or not is_uuid(identifier) or not isinstance(owner, str):
        return None
    size, machine = image.get("size"), image.get(MACHINE, "")
    if not isinstance(size, int) or size < 0 or not isinstance(machine, str):
        return None
    return Claim(site, identifier, owner, image.get("visibility") == "public", size, data_hash(image), machine)


def data_hash(image: Mapping[str, Any]) -> str:
    """Return the algorithm and the hash of an image's data, as Glance has computed them; empty if Glance shows no hash."""
    value = image.get("os_hash_value")
    return f"{image.get('os_hash_algo')}:{value}" if isinstance(value, str) and value else ""


def _is_accepted(claim: Claim, wanted: WantedBase, trust: MemberTrust) -> bool:
    if claim.site not in trust.limited:
        return True
    return claim.owner in {wanted.project, wanted.owner} and trust.speaks_for(claim.site, claim.owner)
