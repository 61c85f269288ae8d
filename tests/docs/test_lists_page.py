"""The gateway knows each list of the installed services, and each of its parameters: it fails when upstream adds one."""

import pytest

from atoll.gateway.lists import parameters
from atoll.gateway.lists.order import Style, sort_field
from atoll.gateway.lists.parameters import Handling, Treatment
from atoll.gateway.resolve.routes import Operation, match
from atoll.services import upstream_lists


@pytest.fixture(scope="module")
def upstream():
    return upstream_lists.read()


def test_each_service_has_lists(upstream):
    """Without lists of a service, the other tests would pass without a check."""
    found = {(each.service, each.path): each for each in upstream}
    assert "changes-since" in found["compute", "/v2.1/servers/detail"].parameters
    assert "display_name" in found["compute", "/v2.1/servers"].sort_keys
    assert {"sort", "tag", "size_min", "limit"} <= set(found["image", "/v2/images"].parameters)
    assert {"not-tags-any", "name", "page_reverse", "fields"} <= set(found["network", "/v2.0/networks"].parameters)
    assert "rule-types" in " ".join(path for service, path in found if service == "network")
    assert {each.service for each in upstream} == {"compute", "image", "network"}
    assert len(upstream) > 150


def test_each_list_is_merged_or_says_why_not(upstream):
    for each in upstream:
        where, why = parameters.handling(each.service, each.path)
        assert (where is Handling.HERE) == bool(why)


def test_each_parameter_has_its_treatment(upstream):
    for each in upstream:
        for name in each.parameters:
            parameters.treatment(each.service, each.path, name)


def test_each_sort_key_is_known(upstream):
    for each in upstream:
        route = match("GET", each.service, parameters.concrete(each.path))
        if route.operation is Operation.LIST and route.resource is not None:
            assert [key for key in each.sort_keys if sort_field(route.resource.style, key) is None] == [], each.path


def test_the_table_has_nothing_that_upstream_has_not(upstream):
    local = [each.path for each in upstream if parameters.handling(each.service, each.path)[0] is Handling.HERE]
    assert [start for start in parameters.HERE if not any(path == start or path.startswith(f"{start}/") for path in local)] == []
    used: dict[str, set[str]] = {}
    for each in upstream:
        route = match("GET", each.service, parameters.concrete(each.path))
        if route.operation in {Operation.LIST, Operation.MERGE} and (route.resource is None or route.resource.style is not Style.NETWORK):
            used.setdefault(route.resource.key if route.resource else route.name, set()).update(each.parameters)
    assert {key: names - used.get(key, set()) for key, names in parameters.FILTERS.items() if names - used.get(key, set())} == {}


@pytest.mark.parametrize("path", ["/v2.1/os-something", "/v2.1/os-something/{id}/things"])
def test_a_list_that_nobody_knows_is_told(path):
    with pytest.raises(LookupError, match="expected a reason"):
        parameters.handling("compute", path)


def test_a_parameter_that_nobody_knows_is_told():
    with pytest.raises(LookupError, match="the parameter colour"):
        parameters.treatment("compute", "/v2.1/servers", "colour")
    assert parameters.treatment("compute", "/v2.1/servers/{id}/os-interface", "colour") is Treatment.SERVICE
