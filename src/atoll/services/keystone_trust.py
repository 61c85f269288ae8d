"""Administrators of other sites: whose tokens count here, where domains may be changed, and a log of what they did.

A token says who somebody is, signed by the site that issued it; what rights that gives is looked up here. So a member whose key was stolen
can sign tokens for every administrator of the cloud. Three things narrow this:

- Each use here of an administrator's token of another site is a line of the audit log.
- Of a site with `trust: local-admin` (docs/cloud.md), such a token is refused.
- What is homed at other sites can't be changed here: a change would count nowhere, so it is refused at once.

The first two are put around `Manager.validate_token` (keystone/token/provider.py), which every check of a token passes, a service's too;
the third is a middleware behind the one that finds out who asks.
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
from atoll.services.keystone_bounds import Application, Refusal

AUDIT_FILE = "admin-audit.jsonl"
"""Below the site's directory of logs."""

_AUDIT_BYTES = 10 * 1024 * 1024
_AUDIT_FILES = 5
_ADMINISTRATORS = frozenset({"admin", "service"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

LOG = logging.getLogger(__name__)


class Audit:
    """A log of uses of administrators' rights from other sites: a JSON object a line. The file is rotated at 10 MiB, and five are kept.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        make_directory(path.parent)
        path.touch(mode=0o600, exist_ok=True)
        self._logger = logging.Logger("atoll.audit", logging.INFO)
        self._logger.addHandler(RotatingFileHandler(path, maxBytes=_AUDIT_BYTES, backupCount=_AUDIT_FILES - 1, encoding="utf-8"))

    def note(self, **fields: object) -> None:
        """Write a line; the time is added."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | fields
        self._logger.info("%s", json.dumps(line, default=str))


class Judge:
    """Decides on tokens that another site has issued.

    Args:
        here: this site's name.
        limited: the sites with `trust: local-admin`.
        audit: told of each use of an administrator's token.
    """

    def __init__(self, here: str, limited: Iterable[str], audit: Audit) -> None:
        self._here = here
        self._limited = frozenset(limited)
        self._audit = audit

    def allows(self, token: Any, site: str) -> bool:
        """Whether a token counts here.

        Args:
            token: Keystone's model of it.
            site: which issued it.
        """
        if site == self._here or not (roles := _rights(token)):
            return True
        allowed = site not in self._limited
        from atoll.services.keystone_context import ASKED

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
    """The roles of an administrator among those that a token gives; empty if it gives none."""
    try:
        names = {role["name"] for role in token.roles or ()}
    except Exception:  # of a user or a project that is gone: Keystone refuses it by itself
        LOG.debug("the roles of a token can't be told", exc_info=True)
        return []
    return sorted(names if token.system else names & _ADMINISTRATORS)


def guarded(validate: Callable[..., Any], judge: Judge, site_of: Callable[[str], str]) -> Callable[..., Any]:
    """Put a judge behind the validation of tokens.

    Args:
        validate: upstream's `Manager.validate_token`.
        judge: decides.
        site_of: the site that issued a token which is valid.
    """

    def validate_token(self: Any, token_id: str, *arguments: Any, **options: Any) -> Any:
        from keystone import exception

        token = validate(self, token_id, *arguments, **options)
        if not judge.allows(token, site_of(token_id)):
            raise exception.TokenNotFound(token_id=token_id)
        return token

    return validate_token


class HomeGuard:
    """A middleware that refuses changes of what is administered elsewhere.

    Args:
        application: what is behind it.
        here: this site's name.
        homed: by `domain/ID` and `project/ID`, the sites that administer it.
    """

    def __init__(self, application: Application, here: str, homed: Mapping[str, Iterable[str]]) -> None:
        self._application = application
        self._elsewhere = {key.partition("/")[2]: sorted(sites) for key, sites in homed.items() if here not in sites}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or let it through."""
        path = [part for part in environ.get("PATH_INFO", "").split("/") if part]
        path = path[1:] if path[:1] == ["v3"] else path
        if self._elsewhere and environ["REQUEST_METHOD"] not in _READS and path[:1] != ["auth"]:
            for owner in _owners(path, environ):
                if owner in self._elsewhere:
                    sites = ", ".join(self._elsewhere[owner])
                    return Refusal(403, f"{owner} is administered at {sites}: do it there.").answer(start_response)
        return self._application(environ, start_response)


def _owners(path: list[str], environ: dict[str, Any]) -> Iterable[str]:
    """The ids of the domains and projects that a change concerns."""
    from keystone import exception

    from atoll.services.keystone_bounds import asker, fields_of

    fields = fields_of(environ)
    about = [(path[0], path[1])] if len(path) > 1 else []
    about = [(path[1], path[2])] if path[:1] == ["OS-INHERIT"] and len(path) > 2 else about
    about += [("domains", fields[name]) for name in ("domain_id",) if isinstance(fields.get(name), str)]
    about += [("projects", fields[name]) for name in ("parent_id", "project_id") if isinstance(fields.get(name), str)]
    if path[:1] == ["OS-TRUST"] and (user := asker(environ)):
        about.append(("users", user))
    for kind, key in about:
        try:
            yield from _with_parents(kind, key)
        except exception.Error:
            continue  # there is none: Keystone says so


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
    """Guard Keystone.

    Args:
        settings: of the site.
        site_of: the site that issued a token which is valid.
    """
    from keystone.server.flask import core
    from keystone.token import provider

    judge = Judge(settings.site, settings.trust, Audit(settings.directory / "log" / AUDIT_FILE))
    provider.Manager.validate_token = guarded(provider.Manager.validate_token, judge, site_of)
    guard = lambda application: HomeGuard(application, settings.site, settings.homed)  # noqa: E731
    core._KEYSTONE_MIDDLEWARE = (*core._KEYSTONE_MIDDLEWARE, guard)
