"""Finds the resources of a request that an earlier request has left unfinished at this site.

A network without its subnets, a security group without its rules, or a flavor without its extra specs would not make the service refuse the
request: the result would be another one. So these resources are brought again before the request is sent, which adds what they lack.
"""

from __future__ import annotations

from typing import Any

from atoll.gateway.bring import implied_network
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.references import FLAVOR, NETWORK, SECURITY_GROUP, Mention, Reference
from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.request.call import Call
from atoll.gateway.resolve import mentions

_OF_PARTS = frozenset({FLAVOR, NETWORK, SECURITY_GROUP})


def ids_of(reference: Reference, here: Any) -> frozenset[tuple[str, str]]:
    """Return kind and id of the resources that a reference means at this site.

    Args:
        reference: the reference; that of a security group may be a name, which several groups may have.
        here: the resource, or the groups, as this site shows them.
    """
    groups = [str(group["id"]) for group in here] if reference.kind == SECURITY_GROUP else []
    return frozenset((reference.kind, each) for each in (reference.id, *groups))


async def unfinished(client: ServiceClient, call: Call, ledger: Ledger) -> list[Mention]:
    """Return the resources to which a request refers and whose creation at this site was abandoned.

    Args:
        client: the client of the user's request.
        call: the request.
        ledger: the record of the creations.

    Raises:
        Unreachable: a service of this site does not answer.
    """
    abandoned = ledger.abandoned()
    named = [mention for mention in mentions.mentions(call) if mention.reference.kind in _OF_PARTS]
    implied = [field for field in mentions.early_fields(call) if field.kind == NETWORK and field.implied]
    if implied and implied_network.names_none(call):
        named += [Mention(Reference(NETWORK, each), implied[0]) for kind, each in sorted(abandoned) if kind == NETWORK]
    found = []
    for mention in named:
        here = await client.look(client.sites.here, mention.reference)
        if here is not None and ids_of(mention.reference, here) & abandoned:
            found.append(mention)
    return found
