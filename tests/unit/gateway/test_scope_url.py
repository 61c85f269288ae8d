import json
import re

import pytest
from hypothesis import given
from scopes import scopes

from atoll.gateway.request import target
from atoll.gateway.scope.parser import parse
from atoll.gateway.scope.url import prefix_of, rewrite_catalogue


@given(scopes())
def test_a_scope_comes_back_out_of_a_url_that_needs_no_escapes(scope):
    prefix = prefix_of(scope)
    found = target.parse(f"{prefix}/compute/v2.1/servers")
    assert (parse(found.scope) if found.scope is not None else parse("{}")) == scope
    assert found.path == "/v2.1/servers"
    assert re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*", prefix)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("{}", ""),
        ("{compute: lyon, image: paris}", "/scope/compute:lyon,image:paris"),
        ("{compute: (paris || lyon) & nice}", "/scope/compute:(paris;lyon)&nice"),
        ("{network: paris % lyon, prime: paris}", "/scope/network:paris+lyon,prime:paris"),
        ("{around: paris, 1.5 ms}", "/scope/around:paris,1.5ms"),
    ],
)
def test_prefix(text, prefix):
    assert prefix_of(parse(text)) == prefix


CATALOG = [
    {"type": "compute", "endpoints": [{"url": "http://paris:8080/compute/v2.1"}, {"url": "http://lyon:8080/compute/v2.1"}]},
    {"type": "object-store", "endpoints": [{"url": "https://other/swift/v1"}]},
]


@pytest.mark.parametrize("wrap", [lambda catalog: {"token": {"catalog": catalog}}, lambda catalog: {"catalog": catalog, "links": {}}])
def test_the_catalogue_keeps_the_scope(wrap):
    rewritten = json.loads(rewrite_catalogue(json.dumps(wrap(CATALOG)).encode(), "/scope/compute:lyon"))
    services = rewritten["token"]["catalog"] if "token" in rewritten else rewritten["catalog"]
    urls = [endpoint["url"] for service in services for endpoint in service["endpoints"]]
    assert urls == [
        "http://paris:8080/scope/compute:lyon/compute/v2.1",
        "http://lyon:8080/scope/compute:lyon/compute/v2.1",
        "https://other/swift/v1",
    ]


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b'{"token": {}}', b'{"error": {"code": 401}}'])
def test_an_answer_without_a_catalogue_stays_as_it_is(body):
    assert rewrite_catalogue(body, "/scope/compute:lyon") == body
