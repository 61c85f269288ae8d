"""Glance, the image API of a site, with images kept as files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from atoll.runtime.child import Child
from atoll.services import base, common, database_files, databases
from atoll.services.contract import DATABASE_SERVERS, Service, Settings
from atoll.services.ini import Sections, render

STORE = "files"


MODULES = (
    "castellan.key_manager.barbican_key_manager",
    "glance.api.middleware.*",
    "glance.api.v2.router",
    "glance.common.wsgi_app",
    "glance.db.sqlalchemy.api",
    "glance_store._drivers.cinder.store",
    "glance_store._drivers.filesystem",
    "glance_store._drivers.http",
    "glance_store._drivers.rbd",
    "glance_store._drivers.s3",
    "glance_store._drivers.swift.store",
    "glance_store._drivers.vmware_datastore",
    "os_brick.initiator.connectors.*",
    "oslo_privsep.daemon",
    "oslo_service.loopingcall",
)
"""The modules that Glance's fork server imports."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render glance-api.conf; the paste file is upstream's own."""
    sections = _sections(settings.data, settings.database("glance"))
    here: Sections = {
        "DEFAULT": {"worker_self_reference_url": settings.url("image")},
        "paste_deploy": {"flavor": "keystone", "config_file": str(common.upstream_file("etc/glance/glance-api-paste.ini"))},
    }
    return {
        "glance/glance-api.conf": render(
            common.logging(settings), common.bus(settings), common.authtoken(settings, "glance"), sections, here
        ),
        **common.policies("glance"),
    }


def _sections(data: Path, database: str) -> Sections:
    return {
        "DEFAULT": {
            "enabled_backends": f"{STORE}:file",
            "enabled_import_methods": "[glance-direct,web-download]",
        },
        "database": {"connection": database},
        "glance_store": {"default_backend": STORE},
        STORE: {"filesystem_store_datadir": f"{data}/images"},
        "os_glance_staging_store": {"filesystem_store_datadir": f"{data}/staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": f"{data}/tasks"},
        # Nobody receives Glance's notifications, and it has no RPC.
        "oslo_messaging_notifications": {"driver": "noop"},
    }


def preload() -> None:
    """Import all of Glance, and map its tables."""
    base.warm(MODULES)


def template(child: Child) -> None:
    """Make a template database with the schema and the metadata definitions that come with Glance."""
    database_files.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    make_schema({"glance": database_files.template_url(directory, "glance")})
    database_files.checkpoint(directory / "glance.db")


def make_schema(urls: Mapping[str, str]) -> None:
    """Make the schema of the database `glance`, and load its metadata definitions; this sets options of the whole process.

    Args:
        urls: the URL of the database, by its name.
    """
    from glance.cmd.manage import DbCommands
    from glance.common import config
    from glance.db.sqlalchemy import api, metadata
    from oslo_config import cfg

    config.set_config_defaults()
    with common.written(render({"database": {"connection": urls["glance"]}})) as path:
        cfg.CONF([], project="glance", default_config_files=[str(path)])
    DbCommands().sync()
    metadata.db_load_metadefs(api.get_engine(), str(common.upstream_file("etc/glance/metadefs")))


def run(child: Child) -> None:
    """Serve the image API until the process is asked to stop."""
    from glance.common import wsgi_app

    from atoll.services.glance import recovery
    from atoll.services.patches.glance import image_deletion, image_flush, image_ids
    from atoll.services.wsgi import serve

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings, "images", "staging", "tasks")
    databases.prepare(settings, "glance", ["glance"], make_schema)
    os.environ["OS_GLANCE_CONFIG_DIR"] = str(settings.etc / "glance")
    image_ids.install()
    image_deletion.install()
    if settings.durable:
        image_flush.install()
    application = wsgi_app.init_app()
    recovery.recover(settings)
    serve(child, application)


SERVICE = Service("glance", __name__, configuration, listens=("image",), needs=DATABASE_SERVERS)
