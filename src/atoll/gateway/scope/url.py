"""Scopes in URLs, so that any client can be pointed at one.

    http://paris:8080/scope/compute:lyon,image:paris/compute/v2.1/servers

A client follows the catalogue. If it signed in under such a prefix, the catalogue in the answer has the prefix too, and so all that the
client does is in this scope. Prefixes that we write hold no percent sign, and nothing that anyone might escape (RFC 3986, section 3.3,
pchar): keystoneauth takes a percent sign in an endpoint for a placeholder, and the services escape it once more in links.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit, urlunsplit

from atoll.gateway.scope.model import SERVICES, Scope


def prefix_of(scope: Scope) -> str:
    """What stands in front of a path in this scope: `/scope/…`, without a slash at its end; empty for a scope that says nothing."""
    spelled = str(scope)[1:-1].replace(" ", "").replace("||", ";").replace("%", "+")
    return spelled and f"/scope/{spelled}"


def rewrite_catalogue(body: bytes, prefix: str) -> bytes:
    """Put a prefix into the endpoints' URLs of Keystone's answer.

    Args:
        body: of the answer to `POST /v3/auth/tokens`, `GET /v3/auth/tokens` or `GET /v3/auth/catalog`.
        prefix: as `prefix_of` makes it.

    Returns:
        The body; as it was, if it holds no catalogue.
    """
    try:
        answer = json.loads(body)
        catalogue = answer["catalog"] if "catalog" in answer else answer["token"]["catalog"]
        for endpoint in (each for service in catalogue for each in service["endpoints"]):
            endpoint["url"] = _prefixed(endpoint["url"], prefix)
    except (ValueError, KeyError, TypeError):
        return body
    return json.dumps(answer).encode()


def _prefixed(url: str, prefix: str) -> str:
    parts = urlsplit(url)
    # Others, such as an object store that is no part of the sites, know no scopes.
    ours = parts.path.lstrip("/").split("/", 1)[0] in SERVICES
    return urlunsplit(parts._replace(path=prefix + parts.path)) if ours else url
