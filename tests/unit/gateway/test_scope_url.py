import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.gateway.scope.url import prefix_of, rewrite_catalogue
from atoll.gateway.target import parse


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_scope_comes_back_out_of_a_url(text):
    target = parse(prefix_of(text) + "/compute/v2.1/servers")
    assert target.scope == text
    assert target.path == "/v2.1/servers"


CATALOG = [
    {"type": "compute", "endpoints": [{"url": "http://paris:8080/compute/v2.1"}, {"url": "http://lyon:8080/compute/v2.1"}]},
    {"type": "object-store", "endpoints": [{"url": "https://other/swift/v1"}]},
]


@pytest.mark.parametrize("wrap", [lambda catalog: {"token": {"catalog": catalog}}, lambda catalog: {"catalog": catalog, "links": {}}])
def test_the_catalogue_keeps_the_scope(wrap):
    rewritten = json.loads(rewrite_catalogue(json.dumps(wrap(CATALOG)).encode(), "/scope/%7B%7D"))
    services = rewritten["token"]["catalog"] if "token" in rewritten else rewritten["catalog"]
    urls = [endpoint["url"] for service in services for endpoint in service["endpoints"]]
    assert urls == [
        "http://paris:8080/scope/%7B%7D/compute/v2.1",
        "http://lyon:8080/scope/%7B%7D/compute/v2.1",
        "https://other/swift/v1",
    ]


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b'{"token": {}}', b'{"error": {"code": 401}}'])
def test_an_answer_without_a_catalogue_stays_as_it_is(body):
    assert rewrite_catalogue(body, "/scope/%7B%7D") == body
