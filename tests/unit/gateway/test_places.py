"""The table of collections, compared with the installed services and with the gateway's rules."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from atoll.gateway.resolve.places import PLACES, VERSIONS, Place, Where, collection_of
from atoll.gateway.resolve.routes import PROXIES, Operation, match
from atoll.services import upstream_lists

ROUTES = """
import json
from nova.api.openstack.compute import routes
print(json.dumps([path for path, methods in routes.ROUTE_LIST if not isinstance(methods, str)]))
"""
SOME_ID = "00000000-0000-4000-8000-000000000000"

UNLISTED = {("network", "quotas")}
"""Collections that the gateway knows and that no list of upstream has."""


def test_every_collection_of_the_services_is_in_the_table():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ROUTES], capture_output=True, text=True, timeout=300, check=True)
    paths = [("compute", f"/v2.1{path}") for path in json.loads(done.stdout.splitlines()[-1])]
    paths += [(each.service, each.path) for each in upstream_lists.read()]
    upstream = {(service, collection_of(service, path)) for service, path in paths}
    known = {(service, name) for service, places in PLACES.items() for name in places}
    assert upstream - known == set(), "upstream has a collection that src/atoll/gateway/resolve/places.py does not know"
    assert known - upstream - UNLISTED == set(), "the table has a collection that upstream has removed"


ROWS = [(service, name, place) for service, places in PLACES.items() for name, place in places.items()]


@pytest.mark.parametrize(("service", "name", "place"), ROWS, ids=[f"{service} {name}" for service, name, _ in ROWS])
def test_table_says_what_the_gateway_does(service: str, name: str, place: Place):
    path = f"/{VERSIONS[service]}/{name}".rstrip("/")
    listed, changed = match("GET", service, path), match("PUT", service, f"{path}/{SOME_ID}")
    if listed.operation is Operation.LOCAL:
        expected = {Where.SETTING} if changed.operation is Operation.EVERYWHERE else {Where.EACH}
    elif listed.operation is Operation.MERGE or (service == "compute" and name in PROXIES):
        expected = {Where.VIEW}
    else:
        assert listed.resource is not None
        expected = {Where.COPIES} if listed.resource.copies else {Where.ONE, Where.VIEW} if place.fixed else {Where.ONE}
    assert place.where in expected
    if place.where is Where.ONE and not place.fixed:
        assert changed.operation is Operation.ITEM
    elif place.where in {Where.COPIES, Where.SETTING}:
        assert changed.operation is Operation.EVERYWHERE


@pytest.mark.parametrize(
    ("service", "path", "name"),
    [
        ("compute", "/v2.1/servers/{id}/action", "servers"),
        ("network", "/v2.0/qos/policies/{id}/tags", "qos/policies"),
        ("network", "/v2.0/networks/{id}/tags", "networks"),
        ("image", "/v2/metadefs/namespaces", "metadefs"),
        ("compute", "/v2.1", ""),
    ],
)
def test_parts_are_at_the_sites_of_their_resource(service: str, path: str, name: str):
    assert collection_of(service, path) == name
