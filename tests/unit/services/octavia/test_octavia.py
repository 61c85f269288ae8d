"""Octavia's configuration and its template database."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import pytest
from upstream import inside

from atoll.services import Settings
from atoll.services.neutron import network_services
from atoll.services.octavia import service as octavia

try:
    version("ovn-octavia-provider")
except PackageNotFoundError:
    pytest.skip("Octavia is not installed", allow_module_level=True)


@pytest.fixture
def told(settings) -> Settings:
    return replace(settings, network="ovn", network_services=("load-balancer",), ports={**settings.ports, "load-balancer": 9876})


UNDERSTAND = """
    from importlib.metadata import entry_points
    from keystoneauth1 import loading
    from oslo_config import cfg

    known = set()
    for point in entry_points(group="oslo.config.opts"):
        if point.name in sys.argv[2:]:
            for group, options in point.load()():
                known |= {(str(getattr(group, "name", group) or "DEFAULT"), option.dest) for option in options}
    options = [*loading.get_auth_plugin_conf_options("password"), *loading.adapter.get_conf_options()]
    known |= {(group, option.dest) for group in ("keystone_authtoken", "service_auth", "neutron") for option in options}
    sections = {}
    cfg.ConfigParser(sys.argv[1], sections).parse()
    tell([f"{section}.{option}" for section, options in sections.items() for option in options if (section, option) not in known])
"""


def test_upstream_knows_every_option(told, tmp_path):
    [text] = octavia.configuration(told).values()
    file = tmp_path / "x.conf"
    file.write_text(text, encoding="utf-8")
    namespaces = ["octavia", "octavia.api.drivers.ovn", "oslo.log", "oslo.messaging", "oslo.messaging.zenoh", "oslo.policy", "oslo.db"]
    more = ["oslo.concurrency", "oslo.middleware", "keystonemiddleware.auth_token"]
    assert inside(UNDERSTAND, str(file), *namespaces, *more) == []


def test_octavia_knows_the_password_of_its_own_account_only(told):
    text = "".join(octavia.configuration(told).values())
    assert {owner for owner in told.secrets if f"secret-of-{owner}-" in text} == {octavia.ACCOUNT}


def test_its_template_is_kept():
    assert octavia.SERVICE.name in network_services.templates()


TEMPLATE = """
    import sqlite3
    from contextlib import closing
    from pathlib import Path
    directory = Path(sys.argv[1])
    from atoll.services import base
    from atoll.services.octavia import service as octavia
    base.preload()
    octavia.preload()
    octavia._make_template(directory)
    from octavia.db import base_models
    with closing(sqlite3.connect(directory / "octavia.db")) as database:
        counted = {name: database.execute(f"select count(*) from {name}").fetchone()[0] for name in base_models.BASE.metadata.tables}
        stamp = database.execute("select version_num from alembic_version").fetchall()
    tell({"filled": sorted(name for name, count in counted.items() if count), "stamp": stamp})
"""


def test_first_rows_are_there(tmp_path):
    found = inside(TEMPLATE, str(tmp_path))
    deleted = {"flavor", "flavor_profile", "availability_zone", "availability_zone_profile"}
    assert len(found["filled"]) == len(octavia.LOOKUPS) + len(deleted)
    assert set(found["filled"]) > deleted
    assert len(found["stamp"]) == 1
