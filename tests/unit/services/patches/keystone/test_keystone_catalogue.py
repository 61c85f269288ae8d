"""Keystone's catalogue on a database that several sites share."""

import pytest
from upstream import inside

CATALOGUE = """
    from pathlib import Path
    from keystone.common import sql
    from keystone.server import backends
    import keystone.server
    from atoll.services.ini import render
    from atoll.services.keystone.service import _make_keys, _sections

    home = Path(sys.argv.pop())
    (home / "keystone.conf").write_text(render(_sections(home, f"sqlite:///{home}/keystone.db") | {"cache": {"enabled": False}}))
    _make_keys(home / "keys")
    keystone.server.configure(config_files=[str(home / "keystone.conf")])
    driver = backends.load_backends()["catalog_api"].driver
    with sql.session_for_write() as session:
        sql.ModelBase.metadata.create_all(session.get_bind())
    driver.create_region({"id": "RegionOne", "description": ""})
    driver.create_service("compute", {"id": "compute", "type": "compute", "name": "nova", "enabled": True})
    for site in ("paris", "lyon"):
        about = {"service_id": "compute", "interface": "public", "url": f"http://{site}", "region_id": "RegionOne", "enabled": True}
        driver.create_endpoint(site, {"id": site, **about})

    def shown():
        [service] = driver.get_v3_catalog("user", None)
        return [endpoint["url"] for endpoint in service["endpoints"]]
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return inside(
        CATALOGUE
        + """
    before = shown()
    from atoll.services.patches.keystone import catalogue
    catalogue.install({"paris"})
    tell([before, shown()])
    """,
        str(tmp_path_factory.mktemp("keystone")),
    )


def test_upstream_shows_the_endpoints_of_all_sites(found):
    assert sorted(found[0]) == ["http://lyon", "http://paris"]


def test_a_site_shows_its_own_endpoints_alone(found):
    assert found[1] == ["http://lyon"]
