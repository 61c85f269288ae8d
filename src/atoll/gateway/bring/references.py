"""The kinds of resources that requests refer to, and their mentions; from `resolve.references` and `resolve.mentions`."""

from atoll.gateway.resolve.mentions import Mention, Reference, mentions, named_by, references
from atoll.gateway.resolve.references import (
    FLAVOR,
    FLOATING_IP,
    HOST,
    IMAGE,
    KEY_PAIR,
    NETWORK,
    PORT,
    SECURITY_GROUP,
    SECURITY_GROUP_RULE,
    SUBNET,
    ZONE,
    Action,
)

__all__ = [
    "FLAVOR",
    "FLOATING_IP",
    "HOST",
    "IMAGE",
    "KEY_PAIR",
    "NETWORK",
    "PORT",
    "SECURITY_GROUP",
    "SECURITY_GROUP_RULE",
    "SUBNET",
    "ZONE",
    "Action",
    "Mention",
    "Reference",
    "mentions",
    "named_by",
    "references",
]
