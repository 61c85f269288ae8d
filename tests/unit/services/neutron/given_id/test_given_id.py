"""The extension that accepts an administrator's ids, in Neutron's real API over a database of its own."""

import uuid

import pytest
from neutron_api import API, CONFIGURATION, EXTENSIONS
from upstream import inside

from atoll.services.neutron import service

GIVEN_IDS = "given-id"

UPSTREAM = """
    from neutron.extensions import securitygroup
    from neutron_lib.api.definitions import l3, network, port, subnet
    from atoll.services.neutron.given_id.plugin import RESOURCES, attribute

    maps = {}
    for module in (network, subnet, port, l3, securitygroup):
        maps |= module.RESOURCE_ATTRIBUTE_MAP
    ours = {collection: attribute(collection) for collection in RESOURCES}
    def different(ours, theirs):
        return [key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)]

    tell({
        "different": {name: different(ours[name], maps[name]["id"]) for name in ours},
        "callable": all(callable(each["convert_to"]) for each in ours.values()),
    })
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    directory = tmp_path_factory.mktemp("neutron")
    settings = directory / "neutron.conf"
    settings.write_text(CONFIGURATION.format(directory=directory, extensions=EXTENSIONS, plugin=GIVEN_IDS).strip())
    return inside(API, str(directory), str(settings))


RESOURCES = ("network", "subnet", "port", "router", "security_group", "security_group_rule")


@pytest.mark.parametrize("resource", RESOURCES)
def test_gateway_vouches_for_ids_but_not_for_those_that_are_computed(found, resource):
    """Else a compromised member could give a tenant's group the id of another project's group `default`."""
    assert found[resource]["vouched"] == [201, 403 if resource.startswith("security_group") else 201]


@pytest.mark.parametrize("resource", RESOURCES)
def test_member_may_not_give_an_id(found, resource):
    assert found[resource]["refused"] == [403, "PolicyNotAuthorized"]


@pytest.mark.parametrize("resource", RESOURCES)
def test_without_an_id_one_is_made_for_anybody(found, resource):
    status, made = found[resource]["made"]
    assert status == 201
    assert uuid.UUID(made)


@pytest.mark.parametrize("resource", RESOURCES)
def test_administrator_gives_the_id(found, resource):
    assert found[resource]["given"] == [201, True]


@pytest.mark.parametrize("resource", RESOURCES)
def test_an_id_is_given_once(found, resource):
    assert found[resource]["again"] == [409, "IdTaken"]


@pytest.mark.parametrize("resource", RESOURCES)
def test_of_two_at_the_same_time_the_second_is_refused_without_waiting(found, resource):
    """Neutron would retry for a minute, because the id stays taken."""
    status, kind, message = found[resource]["raced"]
    assert (status, kind) == (409, "IdTaken")
    assert message == f"There is a {resource} with id {found[resource]['given id']} already."
    assert found[resource]["took"] < 10
    assert not found[resource]["left"], "a refused request must leave nothing in the database"


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_is_found_by_its_given_id(found, resource):
    assert found[resource]["listed"] == [200, True]


def test_each_of_a_bulk_is_looked_at(found):
    assert found["bulk"] == 403


def test_an_id_that_is_not_a_uuid_is_refused(found):
    assert found["malformed"] == 400


def test_upstreams_attribute_is_what_ours_is_laid_over():
    answer = inside(UPSTREAM)
    assert answer["callable"]
    changed = ("allow_post", "convert_list_to", "convert_to", "enforce_policy")
    assert {tuple(sorted(keys)) for keys in answer["different"].values()} == {changed}


def test_entry_points_lead_to_it():
    from importlib.metadata import entry_points

    (policies,) = entry_points(group="neutron.policies", name="atoll")
    (plugin,) = entry_points(group="neutron.service_plugins", name=GIVEN_IDS)
    assert policies.value == "atoll.services.neutron.given_id.plugin:list_rules"
    assert plugin.value == "atoll.services.neutron.given_id.plugin:GivenIdPlugin"


def test_the_extension_is_enabled(settings):
    text = service.configuration(settings)["neutron/neutron.conf"]
    assert f",{GIVEN_IDS}," in text
    assert "\napi_extensions_path = " in text


LOST = """
    from types import SimpleNamespace
    from atoll.services.neutron.given_id.plugin import taken

    # As `ExceptionContextImpl` of SQLAlchemy's ping of a pooled connection: without `chained_exception`.
    tell({"kept": taken(SimpleNamespace(original_exception=OSError("server has gone away"), execution_context=None)) is None})
"""


def test_a_lost_connection_to_the_database_is_not_an_error_of_an_id():
    assert inside(LOST) == {"kept": True}
