"""Keystone, the identity API of a site."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll.files import flush, flush_tree, write_private
from atoll.identifiers import gateway_role
from atoll.identity import engines
from atoll.identity.bounds import TOKEN_GRACE_S, TOKEN_LIFETIME_S
from atoll.runtime.child import Child
from atoll.services import base, common, database_files, databases
from atoll.services.contract import DATABASE_SERVERS, Service, Settings
from atoll.services.database_urls import SQLITE
from atoll.services.ini import Sections, render
from atoll.services.patches.keystone.bounds import CREDENTIALS_PER_USER

MODULES = (
    "keystone.application_credential.backends.sql",
    "keystone.assignment.backends.sql",
    "keystone.assignment.role_backends.sql",
    "keystone.auth.plugins.*",
    "keystone.catalog.backends.sql",
    "keystone.cmd.bootstrap",
    "keystone.credential.backends.sql",
    "keystone.credential.providers.fernet",
    "keystone.endpoint_policy.backends.sql",
    "keystone.federation.backends.sql",
    "keystone.identity.backends.sql",
    "keystone.identity.id_generators.sha256",
    "keystone.identity.mapping_backends.sql",
    "keystone.identity.shadow_backends.sql",
    "keystone.limit.backends.sql",
    "keystone.limit.models.flat",
    "keystone.oauth1.backends.sql",
    "keystone.policy.backends.*",
    "keystone.receipt.providers.fernet",
    "keystone.resource.backends.sql",
    "keystone.resource.config_backends.sql",
    "keystone.revoke.backends.sql",
    "keystone.server.flask.core",
    "keystone.token.providers.jws.core",
    "keystone.trust.backends.sql",
)
"""The modules that Keystone's fork server imports."""


VALIDATE_TOKEN = (
    f"rule:admin_required or (role:reader and system_scope:all) or rule:service_role or rule:token_subject or role:{gateway_role('image')}"
)
"""The rule for validating tokens: upstream's, extended by the gateway's account for images.

The gateway accepts the data of an upload before Glance sees the request, so it validates the token itself. A token with access rules cannot
validate itself.
"""


def configuration(settings: Settings) -> dict[str, str]:
    """Render keystone.conf and its policies."""
    sections = {**_sections(settings.data, settings.database("keystone"))}
    if settings.sharing:
        sections["cache"] = {"enabled": False}  # other sites' Keystones change the same tables, which are local to read
    policies: Sections = {"oslo_policy": {"policy_dirs": str(settings.etc / "keystone" / "policy.d")}}
    text = render(common.logging(settings), common.behind_gateway(), common.bus(settings), sections, policies)
    return {"keystone/keystone.conf": text, "keystone/policy.d/gateway.yaml": f'"identity:validate_token": "{VALIDATE_TOKEN}"\n'}


def _sections(data: Path, database: str) -> Sections:
    return {
        "DEFAULT": {"max_token_size": 2048},
        "oslo_messaging_notifications": {"driver": "noop"},
        "api": {"response_validation": common.VALIDATION},
        "database": {"connection": database},
        # One process serves the site, so a cache in its memory is as good as memcached, and always consistent.
        "cache": {"enabled": True, "backend": "oslo_cache.dict", "expiration_time": 300},
        # Tokens are signed with the site's own key, so any site can verify them with the public key alone.
        # The lifetime bounds how long revocations are kept.
        "token": {"provider": "jws", "expiration": TOKEN_LIFETIME_S, "allow_expired_window": TOKEN_GRACE_S},
        "application_credential": {"user_limit": CREDENTIALS_PER_USER},
        "jwt_tokens": {"jws_public_key_repository": f"{data}/keys/public", "jws_private_key_repository": f"{data}/keys/private"},
        "fernet_receipts": {"key_repository": f"{data}/keys/receipts"},
        "credential": {"key_repository": f"{data}/keys/credential", "user_limit": CREDENTIALS_PER_USER},
        # bcrypt's limit in bytes; with a higher value, Keystone warns at each new password.
        "identity": {"max_password_length": 72},
    }


def preload() -> None:
    """Import all of Keystone, and map its tables."""
    base.warm(MODULES)


def template(child: Child) -> None:
    """Make a template database with the schema."""
    database_files.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    make_schema({"keystone": database_files.template_url(directory, "keystone")})
    database_files.checkpoint(directory / "keystone.db")


def make_schema(urls: Mapping[str, str]) -> None:
    """Make the schema of the database `keystone` by Keystone's migrations; sets options of the whole process.

    Args:
        urls: the URL of the database, by its name.
    """
    import keystone.server
    from keystone.common.sql import upgrades

    with common.written(render(_sections(Path("/nonexistent"), urls["keystone"]))) as path:
        keystone.server.configure(config_files=[str(path)])
    upgrades.offline_sync_database_to_version()
    if not urls["keystone"].startswith(SQLITE):
        engines.adapt(urls["keystone"])


def run(child: Child) -> None:
    """Serve the identity API; at the first start, fill the database."""
    from atoll.services.wsgi import serve

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings)
    databases.prepare(settings, "keystone", ["keystone"], make_schema)
    serve(child, application(settings))


def application(settings: Settings) -> Any:
    """Return Keystone's WSGI application with all patches, its keys and its initial contents.

    Args:
        settings: the settings of a site whose database has its schema.
    """
    import keystone.conf
    import keystone.server
    from keystone.common import provider_api
    from keystone.server.flask import core

    from atoll.services import invalidation
    from atoll.services.keystone import bootstrap
    from atoll.services.patches.keystone import bounds, catalogue, clock, policy_rules, request_context, tokens, trust

    _make_keys(settings.data / "keys")
    if settings.shares:
        _share_keys(settings)
    os.environ["OS_KEYSTONE_CONFIG_DIR"] = str(settings.etc / "keystone")
    keystone.server.configure(config_files=core._get_config_files())
    bootstrap.bootstrap(settings)
    # Both the bootstrapper and the application register the back ends, and a second registration is refused.
    provider_api.ProviderAPIs._clear_registry_instances()
    keystone.conf.CONF.reset()
    request_context.install()
    bounds.install(settings.sockets)
    tokens.install()
    clock.install(settings.sockets, settings.data)
    trust.install(settings, tokens.site_of(settings.site, settings.trust))
    invalidation.announce_commits(settings.sockets)
    if settings.sharing:
        catalogue.install(bootstrap.endpoints_elsewhere(settings))
    made = core.initialize_application("public", config_files=core._get_config_files())
    policy_rules.install()
    return made


def _make_keys(keys: Path) -> None:
    """Create the key pair that signs the site's tokens, and the keys of receipts and stored credentials."""
    from cryptography.fernet import Fernet
    from keystone.common import jwt_utils

    if keys.exists():
        return
    temporary = keys.with_suffix(".new")
    for name in ("public", "private", "receipts", "credential"):
        (temporary / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = temporary / "private/private.pem", temporary / "public/public.pem"
    jwt_utils.create_jws_keypair(str(private), str(public), algorithm="ES256")
    for name in ("receipts", "credential"):
        for index in ("0", "1"):
            (temporary / name / index).write_bytes(Fernet.generate_key())
    for path in temporary.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    flush_tree(temporary)
    temporary.rename(keys)
    flush(keys.parent)


def _share_keys(settings: Settings) -> None:
    """Take over the keys of stored credentials and of receipts from the site whose Keystone database this site shares.

    The keys that sign tokens are the site's own: its tokens name their issuer.

    Raises:
        SystemExit: the keys of the other site can't be read.
    """
    theirs = settings.directory.parent / settings.shares / "data" / "keys"
    for name in ("receipts", "credential"):
        try:
            keys = {path.name: path.read_bytes() for path in (theirs / name).iterdir()}
        except OSError as error:
            raise SystemExit(f"the keys of {settings.shares}, whose Keystone database {settings.site} shares: {error}") from None
        own = settings.data / "keys" / name
        for number, key in keys.items():
            if not (own / number).exists() or (own / number).read_bytes() != key:
                write_private(own / number, key.decode("ascii"))
        for path in own.iterdir():
            if path.name not in keys:
                path.unlink()


SERVICE = Service("keystone", __name__, configuration, listens=("identity",), needs=DATABASE_SERVERS)
