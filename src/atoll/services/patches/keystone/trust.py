"""Limits on administrators of other sites, and an audit log of their actions.

A token names its bearer, and is signed by the site that issued it; the site that gets it looks up the bearer's rights. So a thief of a
member's key can sign tokens for every administrator of the cloud. Three measures narrow this:

- Each use of a token of another site's administrator at this site is a line of the audit log.
- Such a token of a site with `trust: local-admin` (docs/cloud.md) is refused.
- A change of a domain or project that is homed at other sites is refused, because it would have no effect.

The first two wrap `Manager.validate_token` (keystone/token/provider.py), through which every validation of a token passes; the third is a
middleware behind the one that identifies the caller.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from atoll.files import make_directory
from atoll.services.contract import Settings
from atoll.services.patches.keystone.bounds import Application, Refusal

AUDIT_FILE = "admin-audit.jsonl"
"""Name of the audit log, below the site's directory of logs."""

_AUDIT_BYTES = 10 * 1024 * 1024
_AUDIT_FILES = 5
_ADMINISTRATORS = frozenset({"admin", "service"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

LOG = logging.getLogger(__name__)


class Audit:
    """A log of uses of administrators' rights from other sites, one JSON object a line; it is rotated at 10 MiB, and five files are kept.

    Args:
        path: the path of the file.
    """

    def __init__(self, path: Path) -> None:
        make_directory(path.parent)
        path.touch(mode=0o600, exist_ok=True)
        self._logger = logging.Logger("atoll.audit", logging.INFO)
        self._logger.addHandler(RotatingFileHandler(path, maxBytes=_AUDIT_BYTES, backupCount=_AUDIT_FILES - 1, encoding="utf-8"))

    def note(self, **fields: object) -> None:
        """Write a line with the time and the given fields to the log."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | fields
        self._logger.info("%s", json.dumps(line, default=str))


class Judge:
    """A judge of tokens that other sites have issued.

    Args:
        here: this site's name.
        limited: the sites with `trust: local-admin`.
        audit: records each use of an administrator's token.
    """

    def __init__(self, here: str, limited: Iterable[str], audit: Audit) -> None:
        self._here = here
        self._limited = frozenset(limited)
        self._audit = audit

    def allows(self, token: Any, site: str) -> bool:
        """Return whether a token is valid here.

        Args:
            token: Keystone's model of the token.
            site: the site that issued it.
        """
        if site == self._here or not (roles := _rights(token)):
            return True
        allowed = site not in self._limited
        from atoll.services.patches.keystone.request_context import ASKED

        self._audit.note(
            site=site,
            outcome="allowed" if allowed else "refused",
            user=token.user_id,
            project=token.project_id,
            domain=token.domain_id,
            system=token.system,
            roles=roles,
            audit_id=token.audit_id,
            request=ASKED.get(),
        )
        return allowed


def _rights(token: Any) -> list[str]:
    """Return the administrators' roles that a token gives; empty if it gives none."""
    try:
        names = {role["name"] for role in token.roles or ()}
    except Exception:  # its user or project was deleted: Keystone itself refuses the token
        LOG.debug("the roles of a token can't be determined", exc_info=True)
        return []
    return sorted(names if token.system else names & _ADMINISTRATORS)


def guarded(validate: Callable[..., Any], judge: Judge, site_of: Callable[[str], str]) -> Callable[..., Any]:
    """Wrap the validation of tokens with a judge.

    Args:
        validate: upstream's `Manager.validate_token`.
        judge: decides whether a valid token is accepted here.
        site_of: returns the site that issued a valid token.
    """

    def validate_token(self: Any, token_id: str, *arguments: Any, **options: Any) -> Any:
        from keystone import exception

        token = validate(self, token_id, *arguments, **options)
        if not judge.allows(token, site_of(token_id)):
            raise exception.TokenNotFound(token_id=token_id)
        return token

    return validate_token


class HomeGuard:
    """A middleware that refuses changes of domains and projects that other sites administer.

    Args:
        application: the application behind it.
        here: this site's name.
        homed: by `domain/ID` or `project/ID`, the sites that administer the domain or project.
    """

    def __init__(self, application: Application, here: str, homed: Mapping[str, Iterable[str]]) -> None:
        self._application = application
        self._elsewhere = {key.partition("/")[2]: sorted(sites) for key, sites in homed.items() if here not in sites}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or pass it on."""
        path = [part for part in environ.get("PATH_INFO", "").split("/") if part]
        path = path[1:] if path[:1] == ["v3"] else path
        if self._elsewhere and environ["REQUEST_METHOD"] not in _READS and path[:1] != ["auth"]:
            for owner in _owners(path, environ):
                if owner in self._elsewhere:
                    sites = ", ".join(self._elsewhere[owner])
                    return Refusal(403, f"{owner} is administered at {sites}: make the change there.").answer(start_response)
        return self._application(environ, start_response)


def _owners(path: list[str], environ: dict[str, Any]) -> Iterable[str]:
    """Yield the ids of the domains and projects that a change concerns."""
    from keystone import exception

    from atoll.services.patches.keystone.bounds import caller_id, fields_of

    fields = fields_of(environ)
    about = [(path[0], path[1])] if len(path) > 1 else []
    about = [(path[1], path[2])] if path[:1] == ["OS-INHERIT"] and len(path) > 2 else about
    about += [("domains", fields[name]) for name in ("domain_id",) if isinstance(fields.get(name), str)]
    about += [("projects", fields[name]) for name in ("parent_id", "project_id") if isinstance(fields.get(name), str)]
    if path[:1] == ["OS-TRUST"] and (user := caller_id(environ)):
        about.append(("users", user))
    for kind, key in about:
        try:
            yield from _with_parents(kind, key)
        except exception.Error:
            continue  # it does not exist, and Keystone itself answers 404


def _with_parents(kind: str, key: str) -> Iterable[str]:
    from keystone.common import provider_api

    providers = provider_api.ProviderAPIs
    if kind in {"domains", "projects"}:
        yield key
        project = providers.resource_api.get_project(key)
        yield project["domain_id"] or ""
        yield from (each["id"] for each in providers.resource_api.list_project_parents(key))
    elif kind == "users":
        yield providers.identity_api.get_user(key)["domain_id"]
    elif kind == "groups":
        yield providers.identity_api.get_group(key)["domain_id"]
    elif kind == "roles":
        yield providers.role_api.get_role(key)["domain_id"] or ""


def install(settings: Settings, site_of: Callable[[str], str]) -> None:
    """Install the judge and the guard.

    Args:
        settings: the site's settings.
        site_of: returns the site that issued a valid token.
    """
    from keystone.server.flask import core
    from keystone.token import provider

    judge = Judge(settings.site, settings.trust, Audit(settings.directory / "log" / AUDIT_FILE))
    provider.Manager.validate_token = guarded(provider.Manager.validate_token, judge, site_of)
    core._KEYSTONE_MIDDLEWARE = (*core._KEYSTONE_MIDDLEWARE, lambda application: HomeGuard(application, settings.site, settings.homed))
