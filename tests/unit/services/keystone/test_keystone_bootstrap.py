"""The contents of a site's Keystone after its first and its later starts, with real Keystone on real databases."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upstream import inside

from atoll.cloud import PORT_OFFSETS
from atoll.identifiers import GATEWAY_SERVICES, LOCAL_USERS, gateway_role, gateway_user, identifier, local_endpoint, local_user
from atoll.services import Settings
from atoll.services.keystone import service as keystone
from atoll.services.keystone.bootstrap import CATALOGUE, ROLES
from atoll.site.composition import SECRETS

START = """
    import os, sqlite3
    from contextlib import closing
    from pathlib import Path
    from atoll.services import base
    arguments = sys.argv[1:]
    base.preload()

    import keystone.conf
    import keystone.server
    from keystone.common import provider_api
    from keystone.server.flask import core
    from atoll.services.keystone import service as ours
    from atoll.services.keystone import bootstrap as keystone_bootstrap
    from atoll.services.contract import Settings

    directory, *arguments = arguments
    os.environ["OS_KEYSTONE_CONFIG_DIR"] = f"{directory}/etc/keystone"
    identity = lambda: provider_api.ProviderAPIs.identity_api
    ours._make_keys(Path(directory) / "data/keys")
    keystone.server.configure(config_files=core._get_config_files())

    def start():
        "As services/keystone/service.py `run` does, up to the application."
        provider_api.ProviderAPIs._clear_registry_instances()
        keystone_bootstrap.bootstrap(Settings.load(directory))

    def rows():
        "All that is in the database, by table."
        with closing(sqlite3.connect(f"{directory}/data/keystone.db")) as database:
            database.row_factory = sqlite3.Row
            tables = [name for name, in database.execute("select name from sqlite_master where type = 'table'").fetchall()]
            return {table: sorted((dict(row) for row in database.execute(f'select * from "{table}"')), key=repr) for table in tables}

    def signs_in(user, password):
        try:
            identity().driver.authenticate(user, password)
        except AssertionError:
            return False
        return True
"""

THREE_STARTS = """
    known, found = json.loads(arguments[0]), {}
    admin, path = known["admin"], Path(directory) / "settings.json"
    start()
    found["first"] = rows()
    found["signs_in"] = [signs_in(user, f"paris-{secret}") for user, secret in known["accounts"]]
    start()
    found["second"] = rows()

    identity().update_user(admin, {"password": "changed"})
    provider_api.ProviderAPIs.catalog_api.delete_endpoint(known["endpoint"])
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"host": "127.0.0.9", "ports": settings["ports"] | {"gateway": 8080}}))
    before = rows()
    start()
    found["third"] = rows()
    found["changed"] = sorted(table for table, held in rows().items() if held != before[table])
    found["passwords"] = [signs_in(admin, "changed"), signs_in(admin, "paris-admin")]

    from atoll import pokes
    from atoll.services import invalidation
    import socket
    def poked():
        try:
            receiver.recv(16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        pokes.drain(receiver)
        return True

    with pokes.receiver(Path(directory) / "run" / pokes.COMMITTED) as receiver:
        invalidation.announce_commits(Path(directory) / "run")
        identity().driver.get_user(admin)
        identity().list_users()
        found["pokes"] = [poked()]
        identity().update_user(admin, {"enabled": False})
        found["pokes"].append(poked())
    tell(found)
"""

CUT_SHORT = """
    from unittest import mock

    class Cut(Exception):
        pass

    def cut_short(name, calls):
        "Start, and be killed at one call of a function."
        real, left = getattr(keystone_bootstrap, name), iter(range(calls - 1))
        def limited(*arguments):
            if next(left, None) is None:
                raise Cut
            return real(*arguments)
        with mock.patch.object(keystone_bootstrap, name, limited):
            try:
                start()
            except Cut:
                return
        raise AssertionError(f"{name} was not called that often")

    for name, calls in [("_make_role", 3), ("_make_user", 1), ("_make_user", 3), ("_grant", 2), ("_make_endpoint", 7)]:
        cut_short(name, calls)
    start()
    tell(rows())
"""

COMES_AND_GOES = """
    found, path = [], Path(directory) / "settings.json"
    settings = json.loads(path.read_text())
    for more in ({}, {"load-balancer": 9876}, {"load-balancer": 9876}, {}):
        path.write_text(json.dumps(settings | {"ports": settings["ports"] | more}))
        start()
        found.append(sorted((row["interface"], row["url"]) for row in rows()["endpoint"] if "127.0.0.1:1502" not in row["url"]))
        found[-1] += [row["url"] for row in rows()["endpoint"] if "load-balancer" in row["url"]]
    tell(found)
"""

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """The path of a database with Keystone's schema."""
    directory: Path = tmp_path_factory.mktemp("template")
    code = """
        import sys
        from pathlib import Path
        from atoll.services import base
        from atoll.services.keystone import service as keystone
        directory = Path(sys.argv[1])
        base.preload()
        keystone._make_template(directory)
        tell(None)
    """
    inside(code, str(directory))
    return directory / "keystone.db"


@pytest.fixture(scope="module")
def site(tmp_path_factory, template) -> Callable[[str, int], Settings]:
    """A function that makes a site with its configuration and an empty database."""

    def made(name: str, port: int) -> Settings:
        directory = tmp_path_factory.mktemp(name)
        ports = {endpoint: port + offset for endpoint, offset in PORT_OFFSETS.items()}
        secrets = {each: f"{name}-{each}" for each in SECRETS}
        settings = Settings(name, directory, template.parent, "127.0.0.1", ports, secrets)
        (settings.etc / "keystone" / "policy.d").mkdir(parents=True)
        settings.data.mkdir()
        shutil.copyfile(template, settings.data / "keystone.db")
        for path, text in keystone.configuration(settings).items():
            (settings.etc / path).write_text(text)
        settings.save()
        return settings

    return made


@pytest.fixture(scope="module")
def paris(site) -> dict[str, Any]:
    """Contents of a site after its first start, its second, and a third after an administrator's changes and with other addresses."""
    settings = site("paris", 15000)
    known = {"admin": identifier("user", "admin"), "endpoint": local_endpoint("paris", "image", "admin"), "accounts": accounts("paris")}
    found: dict[str, Any] = inside(START + THREE_STARTS, str(settings.directory), json.dumps(known))
    return found


@pytest.fixture(scope="module")
def lyon(site) -> Rows:
    """Contents of another site whose first start was interrupted at one place after another."""
    found: Rows = inside(START + CUT_SHORT, str(site("lyon", 15010).directory))
    return found


def test_optional_services_enter_and_leave_the_catalogue(site):
    found = inside(START + COMES_AND_GOES, str(site("nice", 15020).directory))
    there = [["admin", "http://127.0.0.1:9876"], ["internal", "http://127.0.0.1:9876"], "http://127.0.0.1:15021/load-balancer"]
    assert found == [[], there, there, []]


def accounts(site: str) -> list[tuple[str, str]]:
    """Return the id of each user, and the secret that is its password."""
    local = [(local_user(site, name), name) for name in LOCAL_USERS]
    own = [(local_user(site, gateway_role(service)), "gateway") for service in GATEWAY_SERVICES]
    return [(identifier("user", "admin"), "admin"), *own, *local]


def ids(rows: Rows, table: str, column: str = "id") -> set[str]:
    return {row[column] for row in rows[table]}


def test_shared_records_have_computed_ids(paris):
    rows = paris["first"]
    assert {row["id"]: row["name"] for row in rows["role"]} == {identifier("role", name): name for name in ROLES}
    projects = {row["id"]: row["name"] for row in rows["project"] if not row["is_domain"]}
    assert projects == {identifier("project", name): name for name in ("admin", "service")}
    assert {row["id"]: row["type"] for row in rows["service"]} == {identifier("service", kind): kind for kind in CATALOGUE}
    assert ids(rows, "region") == {"RegionOne"}


def test_users_are_the_clouds_admin_and_the_sites_own(paris):
    assert ids(paris["first"], "user") == {user for user, _secret in accounts("paris")}
    names = {row["user_id"]: row["name"] for row in paris["first"]["local_user"]}
    assert names == dict(accounts("paris")) | {local_user("paris", gateway_role(each)): gateway_role(each) for each in GATEWAY_SERVICES}
    assert gateway_user("paris") not in names, "the account of earlier versions, an administrator at all sites, must be removed"
    assert paris["signs_in"] == [True] * len(names)


def test_roles_are_immutable(paris):
    assert ids(paris["first"], "role_option", "role_id") == {identifier("role", name) for name in ROLES}


def test_role_assignments_of_all_accounts(paris):
    project = {name: identifier("project", name) for name in ("admin", "service")}
    role = {name: identifier("role", name) for name in ROLES}
    found = {(row["actor_id"], row["target_id"], row["role_id"]) for row in paris["first"]["assignment"]}
    assert found == {
        (identifier("user", "admin"), project["admin"], role["admin"]),
        *((local_user("paris", gateway_role(each)), project["service"], role[gateway_role(each)]) for each in GATEWAY_SERVICES),
        *((local_user("paris", name), project["service"], role[each]) for name in LOCAL_USERS for each in ("admin", "service")),
    }
    system = {(row["actor_id"], row["role_id"]) for row in paris["first"]["system_assignment"]}
    assert system == {(identifier("user", "admin"), role["admin"])}


def test_clients_are_led_to_the_gateway_and_services_to_one_another(paris):
    direct = {
        "identity": "http://127.0.0.1:15000/v3",
        "image": "http://127.0.0.1:15002",
        "compute": "http://127.0.0.1:15004/v2.1",
        "network": "http://127.0.0.1:15006",
        "placement": "http://127.0.0.1:15008",
    }
    public = {
        "identity": "http://127.0.0.1:15001/identity/v3",
        "image": "http://127.0.0.1:15001/image",
        "compute": "http://127.0.0.1:15001/compute/v2.1",
        "network": "http://127.0.0.1:15001/network",
        "placement": "http://127.0.0.1:15001/placement",
    }
    wanted = {
        (local_endpoint("paris", kind, interface), identifier("service", kind), interface, url)
        for interface, urls in {"public": public, "internal": direct, "admin": direct}.items()
        for kind, url in urls.items()
    }
    endpoints = paris["first"]["endpoint"]
    assert {(row["id"], row["service_id"], row["interface"], row["url"]) for row in endpoints} == wanted
    assert {row["region_id"] for row in endpoints} == {"RegionOne"}


def test_second_start_changes_nothing(paris):
    assert paris["second"] == paris["first"]


def test_password_that_the_administrator_has_changed_stays(paris):
    assert paris["passwords"] == [True, False]


def test_changed_addresses_reach_the_catalogue_and_nothing_else_changes(paris):
    urls = {(row["service_id"], row["interface"]): row["url"] for row in paris["third"]["endpoint"]}
    assert urls[identifier("service", "compute"), "public"] == "http://127.0.0.9:8080/compute/v2.1"
    assert urls[identifier("service", "compute"), "internal"] == "http://127.0.0.1:15004/v2.1"
    assert urls[identifier("service", "image"), "admin"] == "http://127.0.0.1:15002", "the deleted endpoint must be created again"
    assert ids(paris["third"], "endpoint") == ids(paris["first"], "endpoint")
    assert paris["changed"] == ["endpoint"]


def test_mesh_is_told_of_changes_and_not_of_those_who_only_look(paris):
    assert paris["pokes"] == [False, True]


def test_first_start_that_was_cut_short_is_completed(paris, lyon):
    first = paris["first"]
    assert {table: len(rows) for table, rows in lyon.items()} == {table: len(rows) for table, rows in first.items()}
    assert ids(lyon, "user") == {user for user, _secret in accounts("lyon")}
    assert ids(lyon, "endpoint") == {local_endpoint("lyon", kind, each) for kind in CATALOGUE for each in ("public", "internal", "admin")}


def test_sites_that_never_met_have_the_same_admin_project_roles_and_services(paris, lyon):
    first = paris["first"]
    for table in ("role", "role_option", "implied_role", "project", "service", "region", "system_assignment"):
        assert lyon[table] == first[table], table
    assert ids(lyon, "user") & ids(first, "user") == {identifier("user", "admin")}
    assert ids(lyon, "endpoint") & ids(first, "endpoint") == set()
