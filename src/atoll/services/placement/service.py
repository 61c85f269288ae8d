"""Placement, the inventory of a site's hosts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from atoll.runtime.child import Child
from atoll.services import base, common, database_files, databases
from atoll.services.contract import DATABASE_SERVERS, Service, Settings
from atoll.services.ini import Sections, render

MODULES = ("placement.wsgi",)
"""The modules that Placement's fork server imports."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render placement.conf with the site's database and accounts."""
    sections = _sections(settings.database("placement"))
    return {"placement/placement.conf": render(common.logging(settings), common.authtoken(settings, "placement"), sections)}


def _sections(database: str) -> Sections:
    return {"placement_database": {"connection": database}, "api": {"auth_strategy": "keystone"}}


def preload() -> None:
    """Import all of Placement, and map its tables."""
    base.warm(MODULES)


def template(child: Child) -> None:
    """Make a template database with the schema."""
    database_files.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    make_schema({"placement": database_files.template_url(directory, "placement")})
    database_files.checkpoint(directory / "placement.db")


def make_schema(urls: Mapping[str, str]) -> None:
    """Make the schema of the database `placement` by Placement's migrations; sets options of the whole process.

    Args:
        urls: the URL of the database, by its name.
    """
    from oslo_config import cfg
    from placement import conf, db_api
    from placement.db.sqlalchemy import migration

    config = cfg.ConfigOpts()
    conf.register_opts(config)
    with common.written(render(_sections(urls["placement"]))) as path:
        config([], project="placement", default_config_files=[str(path)])
    db_api.configure(config)
    migration.upgrade("head")


def run(child: Child) -> None:
    """Serve the placement API until the process is asked to stop."""
    from placement import wsgi

    from atoll.services.patches.placement import abandoned_consumers, repeated_requests
    from atoll.services.wsgi import serve

    abandoned_consumers.install()
    settings = Settings.load(child.arguments["directory"])
    if not settings.database("placement").startswith("sqlite:"):
        repeated_requests.install()
    common.directories(settings)
    databases.prepare(settings, "placement", ["placement"], make_schema)
    if settings.reduces_traffic:
        _reduce_statements(settings)
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = str(settings.etc / "placement")
    serve(child, wsgi.init_application())


def _reduce_statements(settings: Settings) -> None:
    """Install the patches with which Placement executes fewer statements."""
    from atoll.services.patches.placement import attribute_caches, ended_consumers, kept_providers

    ended_consumers.install()
    if settings.database("placement").startswith("sqlite:"):
        attribute_caches.install()
        kept_providers.install()


SERVICE = Service("placement", __name__, configuration, listens=("placement",), needs=DATABASE_SERVERS)
