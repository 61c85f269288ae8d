"""Placement: what the hosts of a site have left."""

from __future__ import annotations

import os
from pathlib import Path

from atoll.runtime.child import Child
from atoll.services import base, common
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render

MODULES = ("placement.wsgi",)
"""What the fork server imports."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render placement.conf."""
    sections = _sections(settings.database("placement"))
    return {"placement/placement.conf": render(common.logging(settings), common.authtoken(settings, "placement"), sections)}


def _sections(database: str) -> Sections:
    return {"placement_database": {"connection": database}, "api": {"auth_strategy": "keystone"}}


def preload() -> None:
    """Import Placement whole, and map its tables."""
    base.warm(MODULES)


def template(child: Child) -> None:
    """Make the schema."""
    common.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    from oslo_config import cfg
    from placement import conf, db_api
    from placement.db.sqlalchemy import migration

    path = directory / "placement.conf"
    path.write_text(render(_sections(common.template_database(directory, "placement"))), encoding="utf-8")
    config = cfg.ConfigOpts()
    conf.register_opts(config)
    config([], project="placement", default_config_files=[str(path)])
    db_api.configure(config)
    migration.upgrade("head")
    common.checkpoint(directory / "placement.db")


def run(child: Child) -> None:
    """Serve the placement API."""
    from placement import wsgi

    from atoll.services.wsgi import serve

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings)
    common.databases(settings, "placement", ["placement"])
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = str(settings.etc / "placement")
    serve(child, wsgi.init_application())


SERVICE = Service("placement", __name__, configuration, listens=("placement",))
