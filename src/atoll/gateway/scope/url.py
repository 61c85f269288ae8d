"""Puts scopes into URLs, so that any client can use one.

    http://paris:8080/scope/compute:lyon,image:paris/compute/v2.1/servers

A client uses the URLs of the catalogue. If it signs in under such a prefix, the URLs in the catalogue get the same prefix, and all its
requests are in this scope. A prefix holds no percent sign and only characters that nobody escapes (RFC 3986, section 3.3, pchar):
keystoneauth takes a percent sign in an endpoint for the beginning of a placeholder, and the services escape it again in links.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit, urlunsplit

from atoll.gateway.scope.model import SERVICES, Scope


def prefix_of(scope: Scope) -> str:
    """Return the prefix of paths in a scope (`/scope/…`), without a slash at its end; empty for an empty scope."""
    spelled = str(scope)[1:-1].replace(" ", "").replace("||", ";").replace("%", "+")
    return spelled and f"/scope/{spelled}"


def rewrite_catalogue(body: bytes, prefix: str) -> bytes:
    """Return the body of Keystone's answer with a prefix in the URLs of the endpoints.

    Args:
        body: the body of the answer to `POST /v3/auth/tokens`, `GET /v3/auth/tokens` or `GET /v3/auth/catalog`.
        prefix: a prefix of `prefix_of`.

    Returns:
        The new body; the same body if it holds no catalogue.
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
    # Other endpoints, such as an object store outside the sites, do not understand scopes.
    ours = parts.path.lstrip("/").split("/", 1)[0] in SERVICES
    return urlunsplit(parts._replace(path=prefix + parts.path)) if ours else url
