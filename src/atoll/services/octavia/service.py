"""Octavia with the OVN provider: its API, and the services of upstream's driver agent. Load balancers are flows of the site's switch.

Upstream's agent (octavia/cmd/driver_agent.py) is five processes: three that receive reports of provider drivers over Unix sockets, one for
the OVN provider's events, and their parent. Here all are threads of the API's process. Octavia's other services manage virtual machines
that balance load, which the OVN provider does not use.
"""

from __future__ import annotations

import socketserver
import threading
from pathlib import Path
from typing import Any

from atoll.namespaces import private_mounts
from atoll.runtime.child import Child
from atoll.services import base, common, database_files
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render
from atoll.services.neutron.ovn import layout

FILE = "octavia/octavia.conf"

ENDPOINT = "load-balancer"

ACCOUNT = "neutron"
"""The account with which Octavia signs in; all its requests go to Neutron."""

SOCKETS = "/run/octavia"
"""The directory in which provider drivers look for the agent's sockets, whatever the configuration says (`DriverLibrary` of octavia_lib).
"""

LISTENERS = ("status", "stats", "get")
"""Kinds of messages from provider drivers; each kind has a socket of its own."""

MODULES = (
    "octavia.api.app",
    "octavia.api.drivers.driver_agent.driver_listener",
    "octavia.api.root_controller",
    "octavia.api.v2.controllers",
    "octavia.db.models",
    "octavia.db.repositories",
    "octavia.policies",
    "ovn_octavia_provider.agent",
    "ovn_octavia_provider.driver",
)

LOOKUPS = {
    "SUPPORTED_PROVISIONING_STATUSES": "ProvisioningStatus",
    "SUPPORTED_HEALTH_MONITOR_TYPES": "HealthMonitorType",
    "SUPPORTED_LB_ALGORITHMS": "Algorithm",
    "SUPPORTED_PROTOCOLS": "Protocol",
    "SUPPORTED_OPERATING_STATUSES": "OperatingStatus",
    "SUPPORTED_SP_TYPES": "SessionPersistenceType",
    "SUPPORTED_AMPHORA_ROLES": "AmphoraRoles",
    "SUPPORTED_LB_TOPOLOGIES": "LBTopology",
    "SUPPORTED_VRRP_AUTH": "VRRPAuthMethod",
    "SUPPORTED_L7RULE_TYPES": "L7RuleType",
    "SUPPORTED_L7RULE_COMPARE_TYPES": "L7RuleCompareType",
    "SUPPORTED_L7POLICY_ACTIONS": "L7PolicyAction",
    "SUPPORTED_CLIENT_AUTH_MODES": "ClientAuthenticationMode",
}
"""The models of the tables that Octavia's migrations fill, by the name of the constant that lists their rows."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render octavia.conf with the site's database and accounts."""
    database = layout.database(settings)
    client = {**common.client(settings, ACCOUNT), "valid_interfaces": "internal"}
    sections: Sections = {
        "DEFAULT": {"host": settings.site},
        "api_settings": {
            "enabled_provider_drivers": "ovn:load balancers in OVN",
            "default_provider_driver": "ovn",
            "api_base_uri": settings.public_url(ENDPOINT),
        },
        "database": {"connection": settings.database("octavia")},
        "service_auth": client,
        "neutron": client,
        "ovn": {"ovn_nb_connection": database, "ovn_sb_connection": database},
    }
    return {FILE: render(_logging(settings), common.bus(settings), common.authtoken(settings, ACCOUNT, "load-balancer"), sections)}


def _logging(settings: Settings) -> Sections:
    """Return the logging options, without a line for every option at each start."""
    said = common.logging(settings)
    levels = said["DEFAULT"]["default_log_levels"]
    assert isinstance(levels, list)
    return {**said, "DEFAULT": {**said["DEFAULT"], "default_log_levels": [*levels, "octavia.api.app=WARNING"]}}


def preload() -> None:
    """Import all of Octavia, and map its tables."""
    base.warm(MODULES)


def template(child: Child) -> None:
    """Make a template database with the schema."""
    database_files.make_template(Path(child.arguments["directory"]), _make_template)


def _make_template(directory: Path) -> None:
    """Create the tables from Octavia's models, because its migrations do not run on SQLite, and insert the migrations' first rows."""
    from octavia.common import constants
    from octavia.db import base_models, models
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    engine = create_engine(database_files.template_url(directory, "octavia"))
    base_models.BASE.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for constant, table in LOOKUPS.items():
            session.add_all(getattr(models, table)(name=name) for name in getattr(constants, constant))
        _add_deleted(session, constants, models)
    engine.dispose()
    _stamp(directory)
    database_files.checkpoint(directory / "octavia.db")


def _add_deleted(session: Any, constants: Any, models: Any) -> None:
    """Insert the flavor and the availability zone that stand for deleted ones in load balancers that used them."""
    nil, name = constants.NIL_UUID, "DELETED-PLACEHOLDER"
    session.add(models.FlavorProfile(id=nil, name=name, provider_name=constants.DELETED, flavor_data="{}"))
    session.add(models.AvailabilityZoneProfile(id=nil, name=name, provider_name=constants.DELETED, availability_zone_data="{}"))
    session.flush()
    session.add(models.Flavor(id=nil, flavor_profile_id=nil, name=name, enabled=False))
    session.add(models.AvailabilityZone(availability_zone_profile_id=nil, name=nil, enabled=False))


def _stamp(directory: Path) -> None:
    """Record the version of the schema where Octavia's own tool looks for it."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from octavia.db import migration
    from sqlalchemy import create_engine, text

    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "alembic_migrations"))
    head = ScriptDirectory.from_config(config).get_current_head()
    engine = create_engine(database_files.template_url(directory, "octavia"))
    with engine.begin() as connection:
        connection.execute(text("create table alembic_version (version_num varchar(32) not null primary key)"))
        connection.execute(text("insert into alembic_version values (:head)"), {"head": head})
    engine.dispose()


def run(child: Child) -> None:
    """Serve the load-balancing API and its provider until the process is asked to stop."""
    from octavia.api import app

    from atoll.services.wsgi import serve

    settings = Settings.load(child.arguments["directory"])
    common.directories(settings)
    database_files.copy_templates(settings, "octavia", ["octavia"])
    private_mounts({SOCKETS: str(settings.sockets / "octavia")})
    listeners = _listen()
    application = app.setup_app(argv=["octavia-api", "--config-file", str(settings.etc / FILE)])
    end = threading.Event()
    agent = threading.Thread(target=_agent, args=(end,), name="provider")
    agent.start()
    serve(child, application)
    end.set()
    agent.join()
    for listener in listeners:
        listener.shutdown()


def _agent(end: threading.Event) -> None:
    """Receive the events of OVN that concern load balancers and their members."""
    from ovn_octavia_provider import agent

    from atoll.services.patches.octavia import event_lock

    event_lock.install()
    agent.OvnProviderAgent(end)


class _Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A listener for provider drivers, with a thread for each request. Upstream's forks: a process with threads must not do that."""

    daemon_threads = True
    request_queue_size = 64
    """Greatest number of connections that wait to be accepted."""


def _listen() -> list[_Listener]:
    from octavia.api.drivers.driver_agent import driver_listener

    listeners = []
    for name in LISTENERS:
        path = Path(SOCKETS) / f"{name}.sock"
        path.unlink(missing_ok=True)
        listener = _Listener(str(path), getattr(driver_listener, f"{name.capitalize()}RequestHandler"))
        threading.Thread(target=listener.serve_forever, name=name, daemon=True).start()
        listeners.append(listener)
    return listeners


SERVICE = Service("octavia", __name__, configuration, listens=(ENDPOINT,), needs=("keystone", "neutron", "ovn-controller"))
