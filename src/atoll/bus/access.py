"""A router's access list: the certificates that open a link, and the rights of their holders on the bus.

Zenoh's access control compares each message, in both directions, with rules for the common name of the link's certificate. A message that
no rule allows is dropped. The rules can't be changed while a session is open: a router whose list changes closes its session, which
closes all links, and opens a new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.bus.keys import Keys
from atoll.bus.realms import OWN

_LOCAL_LINKS = ["tcp", "unixsock-stream"]
"""Links without a certificate. Unix sockets are guarded by their directory; TCP is guarded by nothing, as docs/bus.md says."""

_PUT, _SUBSCRIBER, _TOKEN = "put", "declare_subscriber", "liveliness_token"
_TOKENS_ASKED = ["declare_liveliness_subscriber", "liveliness_query"]
_ALL = [_PUT, "delete", _SUBSCRIBER, "query", "declare_queryable", "reply", _TOKEN, *_TOKENS_ASKED]

Targets = tuple[tuple[str, str], ...]
"""Pairs of exchange and topic."""


@dataclass(frozen=True)
class Limits:
    """The rights of a client that is trusted with a part of the bus: it serves some topics under its own name, and calls some others.

    The client sees no other messages and no other clients. It can't send notifications, nor messages to all servers of a topic.

    Attributes:
        vhost: the virtual host.
        realm: the client's own realm (`[oslo_messaging_zenoh] realm`); not 0.
        server: the only server name under which the client listens.
        serves: the topics that the client may listen to.
        calls: the topics that the client may call and cast to.
    """

    vhost: str
    realm: int
    server: str
    serves: Targets
    calls: Targets


@dataclass(frozen=True)
class Client:
    """An entry of the access list.

    Attributes:
        common_name: the common name of the certificate.
        limits: the client's limits; `None` means that the holder of the certificate is trusted with the whole bus.
    """

    common_name: str
    limits: Limits | None = None


def access_control(clients: Iterable[Client]) -> dict[str, Any]:
    """Return Zenoh's configuration `access_control` for an access list.

    Args:
        clients: the access list. A certificate that is not on the list has no rights.

    Raises:
        ValueError: two entries have the same common name or realm, or an entry with limits has realm 0.
    """
    listed = tuple(clients)
    names = [client.common_name for client in listed]
    realms = [(client.limits.vhost, client.limits.realm) for client in listed if client.limits]
    if len(set(names)) < len(names) or len(set(realms)) < len(realms) or any(realm == OWN for _, realm in realms):
        message = "clients of a router have the same common name, or the same realm or realm 0"
        raise ValueError(f"{message}: expected for each client a common name of its own, and, if limited, a realm of its own above 0")
    rules = [_rule("all", _ALL, ["ingress", "egress"], ["**"])]
    subjects: list[dict[str, Any]] = [{"id": "local", "link_protocols": _LOCAL_LINKS}]
    policies: list[dict[str, Any]] = [{"rules": ["all"], "subjects": ["local"]}]
    for number, client in enumerate(listed):
        subject = f"client-{number}"
        own = [{**rule, "id": f"{subject}-{rule['id']}"} for rule in _limited(client.limits)] if client.limits else []
        rules += own
        subjects.append({"id": subject, "cert_common_names": [client.common_name]})
        policies.append({"rules": [rule["id"] for rule in own] or ["all"], "subjects": [subject]})
    return {"enabled": True, "default_permission": "deny", "rules": rules, "subjects": subjects, "policies": policies}


def apply(config: Any, clients: Iterable[Client]) -> None:
    """Write an access list into a `zenoh.Config`; raise the errors of `access_control`."""
    config.insert_json5("access_control", json.dumps(access_control(clients)))


def _limited(limits: Limits) -> list[dict[str, Any]]:
    keys, realm = Keys(limits.vhost), limits.realm
    served = [keys.listeners_of("rpc", *target, limits.server, realm) for target in limits.serves]
    called = [keys.listeners("rpc", *target) for target in limits.calls]
    to_all = [keys.fanout(*target) for target in limits.serves]
    sent = [keys.from_realm(realm), *(keys.from_realm(realm, ("rpc", *target)) for target in limits.calls)]
    received = [keys.nodes_of(realm), *to_all]
    return [
        _rule("sends", [_PUT], ["ingress"], sent),
        _rule("subscribes", [_SUBSCRIBER], ["ingress"], received),
        _rule("receives", [_PUT], ["egress"], received),
        _rule("serves", [_TOKEN], ["ingress"], served),
        _rule("looks", _TOKENS_ASKED, ["ingress"], called),
        _rule("sees", [_TOKEN], ["egress"], called),
    ]


def _rule(name: str, messages: Sequence[str], flows: Sequence[str], patterns: Sequence[str]) -> dict[str, Any]:
    return {"id": name, "messages": list(messages), "flows": list(flows), "permission": "allow", "key_exprs": list(patterns)}
