"""A list of several sites equals the list of one site with all items: any items, split, parameters and page."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from no_parts import NoUnreachableServers

from atoll.gateway.lists import parameters
from atoll.gateway.lists.aggregator import Aggregator
from atoll.gateway.lists.incomplete import LOOK_UPS
from atoll.gateway.lists.lists import Lists
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.resolve.recognise import Request
from atoll.gateway.resolve.routes import COMPUTE, PROXIES, match

SITES = ("a", "b", "c")
HOST = "http://h:80/s"
VERSION = {"OpenStack-API-Version": "compute 2.60"}

Items = Sequence[Mapping[str, Any]]
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Kind:
    """One service's handling of one list, as upstream has it.

    Attributes:
        service: whose.
        path: of the list.
        key: of the list in an answer.
        order: sorts; of a query.
        marker: the field that markers name.
        default: items of a page without `limit`; 0: all.
        links: makes what an answer says of other pages; of the query, the page, its limit.
        wrapped: the only key of each item.
    """

    service: str
    path: str
    key: str
    order: Callable[[Items, Query], list[Mapping[str, Any]]]
    marker: str = "id"
    default: int = 1000
    links: Callable[["Kind", Query, Items, int], dict[str, Any]] = lambda *_arguments: {}
    wrapped: str = ""

    def answer(self, items: Items, query: Query) -> dict[str, Any] | None:
        """Return the answer of one site with these items; `None` stands for 400."""
        given_ = dict(query)
        found = self.order(items, query)
        limit = int(given_.get("limit", 0)) or self.default
        backwards = given_.get("page_reverse") == "True" and "limit" in given_
        if backwards:
            found = found[::-1]
        if "marker" in given_ and (self.default or "limit" in given_):
            names = [str(item[self.marker]) for item in found]
            if given_["marker"] not in names:
                return None
            found = found[names.index(given_["marker"]) + 1 :]
        found = found[int(given_.get("offset", 0)) :]
        found = found[: limit or None]
        if backwards:
            found = found[::-1]
        shown = found
        if fields := {value for name, value in query if name == "fields"}:
            shown = [{name: item[name] for name in item if name in fields} for item in found]
        listed = [{self.wrapped: item} for item in shown] if self.wrapped else list(shown)
        return {self.key: listed} | self.links(self, query, found, limit)


def nova_links(kind: Kind, query: Query, page: Items, limit: int) -> dict[str, Any]:
    if not page or len(page) < limit:
        return {}
    following = [*(pair for pair in query if pair[0] != "marker"), ("marker", str(page[-1][kind.marker]))]
    return {f"{kind.key}_links": [{"rel": "next", "href": f"{HOST}{kind.path}?{urlencode(sorted(following, key=lambda each: each[0]))}"}]}


def glance_links(kind: Kind, query: Query, page: Items, limit: int) -> dict[str, Any]:
    rest = [pair for pair in query if pair[0] != "marker"]
    links = {"first": kind.path + (f"?{urlencode(rest)}" if rest else ""), "schema": kind.path.replace("/v2/", "/v2/schemas/")}
    if page and len(page) == limit:
        links["next"] = f"{kind.path}?{urlencode([*rest, ('marker', page[-1]['id'])])}"
    return links


def neutron_links(kind: Kind, query: Query, page: Items, limit: int) -> dict[str, Any]:
    if not limit:
        return {}
    backwards = dict(query).get("page_reverse") == "True"
    rest = [pair for pair in query if pair[0] not in {"marker", "page_reverse"}]
    links = []
    if len(page) >= limit or backwards:
        links.append({"rel": "next", "href": f"{HOST}{kind.path}?{urlencode([*rest, *(('marker', each['id']) for each in page[-1:])])}"})
    if len(page) >= limit or not backwards:
        before = [*rest, *(("marker", each["id"]) for each in page[:1]), ("page_reverse", "True")]
        links.append({"rel": "previous", "href": f"{HOST}{kind.path}?{urlencode(before)}"})
    return {f"{kind.key}_links": links} if links else {}


def by(*terms: tuple[str, bool]) -> Callable[[Items, Query], list[Mapping[str, Any]]]:
    def order(items: Items, _query: Query) -> list[Mapping[str, Any]]:
        found = list(items)
        for name, falls in reversed(terms):
            found.sort(key=lambda item: item[name], reverse=falls)
        return found

    return order


def of_servers(items: Items, query: Query) -> list[Mapping[str, Any]]:
    fields = {"display_name": "name", "uuid": "id", "created_at": "created", "vcpus": "", "host": "OS-EXT-SRV-ATTR:host"}
    pairs = [(name, fall) for name, fall in _sorting(query, ["created_at"]) if fields[name]]
    return by(*((fields[name], fall) for name, fall in pairs or [("created_at", True)]), ("id", False))(items, query)


def _sorting(query: Query, default: list[str]) -> list[tuple[str, bool]]:
    keys = [value for name, value in query if name == "sort_key"] or default
    falls = [value != "asc" for name, value in query if name == "sort_dir"] or [True]
    return list(zip(keys, [*falls, *[falls[0]] * len(keys)], strict=False))


def of_network(items: Items, query: Query) -> list[Mapping[str, Any]]:
    return by(*((name, fall) for name, fall in _sorting(query, [])), ("id", False))(items, query)


def of_images(items: Items, query: Query) -> list[Mapping[str, Any]]:
    sort = dict(query).get("sort")
    pairs = (
        [(key, fall != "asc") for key, _colon, fall in (each.partition(":") for each in sort.split(","))]
        if sort
        else [("created_at", True)]
    )
    default = pairs[0][1] if len(pairs) == 1 else True
    return by(*pairs, *((name, default) for name in ("created_at", "id") if name not in dict(pairs)))(items, query)


NAMES = st.sampled_from(["", "a", "B", "c", "é"])
TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-02-01T00:00:00Z"])
IDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(40)]

ITEM = st.fixed_dictionaries(
    {"name": NAMES, "created": TIMES, "size": st.integers(0, 3), "OS-EXT-SRV-ATTR:host": NAMES, "links": st.just([])}
)

KINDS = {
    "servers": Kind("compute", "/v2.1/servers/detail", "servers", of_servers, links=nova_links),
    "server names": Kind("compute", "/v2.1/servers", "servers", of_servers, links=nova_links),
    "flavors": Kind("compute", "/v2.1/flavors/detail", "flavors", by(("id", False)), links=nova_links),
    "key pairs": Kind("compute", "/v2.1/os-keypairs", "keypairs", by(("name", False)), "name", links=nova_links, wrapped="keypair"),
    "migrations": Kind("compute", "/v2.1/os-migrations", "migrations", by(("created_at", True)), "uuid", links=nova_links),
    "images": Kind("image", "/v2/images", "images", of_images, default=25, links=glance_links),
    "tasks": Kind("image", "/v2/tasks", "tasks", of_images, default=25, links=glance_links),
    "networks": Kind("network", "/v2.0/networks", "networks", of_network, default=0, links=neutron_links),
    "ports": Kind("network", "/v2.0/ports", "ports", of_network, default=0, links=neutron_links),
}

DIRECTIONS = st.sampled_from(["asc", "desc"])


def sorts(*keys: str) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.tuples(st.sampled_from(keys), DIRECTIONS), max_size=2, unique_by=lambda pair: pair[0])


SORTS: dict[str, st.SearchStrategy[list[tuple[str, str]]]] = {
    "servers": sorts("display_name", "uuid", "created_at", "vcpus", "host").map(
        lambda pairs: [*(("sort_key", key) for key, _ in pairs), *(("sort_dir", fall) for _, fall in pairs)]
    ),
    "images": sorts("name", "size", "created_at", "id").map(
        lambda pairs: [("sort", ",".join(":".join(pair) for pair in pairs))] if pairs else []
    ),
    "networks": st.just([])
    | sorts("name", "created_at").map(lambda pairs: [*(("sort_key", pairs[0][0]), ("sort_dir", pairs[0][1]))] if pairs else []),
}
SORTS |= {"server names": SORTS["servers"], "tasks": SORTS["images"], "ports": SORTS["networks"]}


class Fake:
    """Three sites, each with a service that answers by the model."""

    here = "a"

    def __init__(self, answers: Callable[[str, Call], dict[str, Any] | None]) -> None:
        self.answers = answers
        self.away: set[str] = set()

    async def send(self, site: str, call: Call, _timeout_s: float = 0) -> Reply:
        if site in self.away:
            raise Unreachable(site, "it is cut off")
        body = self.answers(site, call)
        return Reply(400, CIMultiDict(), b"{}", site) if body is None else Reply(200, CIMultiDict(), orjson.dumps(body), site)


def of_kind(kind: Kind, held: Mapping[str, Items]) -> Fake:
    def answers(site: str, call: Call) -> dict[str, Any] | None:
        query = parse_qsl(call.query, keep_blank_values=True)
        body = kind.answer(held[site], query)
        if body is not None and kind.key == "servers" and call.path.endswith("/servers"):
            body["servers"] = [{name: item[name] for name in ("id", "name", "links")} for item in body["servers"]]
        return body

    return Fake(answers)


def ask(fake: Fake, service: str, path: str, query: Query, version: Mapping[str, str] = VERSION) -> Reply:
    headers = CIMultiDict({"X-Forwarded-Host": "h:80", "X-Forwarded-Prefix": "/s"} | dict(version))
    call = Call("GET", service, path, urlencode(query), headers, None, "req-1")
    route = match("GET", service, path)
    if route.resource is None:
        return asyncio.run(Aggregator(fake).answer(Request(call, route, None, SITES)))
    return asyncio.run(Lists(fake, lambda *_arguments: None, NoUnreachableServers()).union(call, route, SITES))


def pages(answer: Callable[[Query], dict[str, Any] | None], query: Query, key: str) -> list[dict[str, Any]]:
    """Return all pages that follow from the first one."""
    found = []
    following: Query | None = query
    while following is not None and len(found) < 50:
        body = answer(following)
        assert body is not None
        found.append(body)
        links = [link["href"] for link in body.get(f"{key}_links", ()) if link["rel"] == "next"] or [body.get("next")]
        following = parse_qsl(urlsplit(links[0]).query, keep_blank_values=True) if links[0] and body[key] else None
    return found


def distinct(name: str, index: int, item: dict[str, Any]) -> dict[str, Any]:
    item |= {"id": IDS[index], "uuid": IDS[index], "created_at": item["created"]}
    if name == "key pairs":
        item["name"] = f"{item['name']}{index}"
    if name == "migrations":
        item["created_at"] = f"{item['created']}{index:02}"  # Nova breaks ties by numbers that each site counts for itself
    return item


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_list_of_several_sites_is_that_of_one_with_all_items(name: str, data: st.DataObject) -> None:
    kind = KINDS[name]
    items = [distinct(name, index, item) for index, item in enumerate(data.draw(st.lists(ITEM, max_size=14)))]
    split = data.draw(st.lists(st.sampled_from(SITES), min_size=len(items), max_size=len(items)))
    held = {site: [item for item, at in zip(items, split, strict=True) if at == site] for site in SITES}
    query = list(data.draw(SORTS.get(name, st.just([]))))
    if data.draw(st.booleans()):
        query.append(("limit", str(data.draw(st.integers(1, 6)))))
    if kind.service == "network" and data.draw(st.booleans()):
        query += [("fields", field) for field in data.draw(st.lists(st.sampled_from(["id", "name", "size"]), min_size=1, unique=True))]
    fake = of_kind(kind, held)

    def gateway(asked: Query) -> dict[str, Any]:
        reply = ask(fake, kind.service, kind.path, asked)
        assert reply.status == 200, reply.body
        return reply.json()

    def whole(asked: Query) -> dict[str, Any] | None:
        body = kind.answer(items, asked)
        if name == "server names" and body is not None:
            body["servers"] = [{field: item[field] for field in ("id", "name", "links")} for item in body["servers"]]
        return body

    assert pages(gateway, query, kind.key) == pages(whole, query, kind.key)
    if kind.service == "network":
        for marker in [item["id"] for item in items[:3]]:
            back = [*query, ("page_reverse", "True"), ("marker", marker)]
            assert gateway(back) == whole(back)


@pytest.mark.parametrize("name", KINDS)
def test_a_marker_that_nobody_has_is_refused_as_one_site_does(name: str) -> None:
    kind = KINDS[name]
    held = {
        site: [{"id": IDS[index], "uuid": IDS[index], "name": site, "created_at": "1", "created": "1", "links": []}]
        for index, site in enumerate(SITES)
    }
    fake = of_kind(kind, held)
    assert ask(fake, kind.service, kind.path, [("limit", "1"), ("marker", "nothing")]).status == 400
    reply = ask(fake, kind.service, kind.path, [("limit", "1"), ("marker", held["c"][0][kind.marker])])
    assert reply.status == 200, "a marker of any site must be accepted"


@pytest.mark.parametrize("limit", ["-1", "x", "1.5", "٣"])
def test_a_limit_that_is_not_a_number_is_left_to_the_service(limit: str) -> None:
    fake = Fake(lambda _site, _call: None)
    assert ask(fake, "compute", "/v2.1/servers", [("limit", limit)]).status == 400


def test_limit_0_is_what_it_is_to_each_service() -> None:
    asked = []

    def answers(site: str, call: Call) -> dict[str, Any]:
        asked.append((site, call.query))
        return {"servers": [], "networks": [{"id": site}], "images": [], "hypervisors": []}

    fake = Fake(answers)
    assert ask(fake, "compute", "/v2.1/servers/detail", [("limit", "0")]).json() == {"servers": []}
    assert asked == [(site, "limit=0") for site in SITES]
    assert [each["id"] for each in ask(fake, "network", "/v2.0/networks", [("limit", "0")]).json()["networks"]] == ["a", "b", "c"]
    assert ask(fake, "image", "/v2/images", [("limit", "0")]).json()["images"] == []


def listed(path: str, key: str, by_site: Mapping[str, Items], query: Query = (), version: str = "2.60") -> Any:
    service = "network" if path.startswith("/v2.0") else "compute"
    fake = Fake(lambda site, _call: {key: list(by_site[site])})
    reply = ask(fake, service, path, query, {"OpenStack-API-Version": f"compute {version}"})
    return reply.json()[key] if reply.status == 200 else reply


def test_items_without_an_id_that_differ_in_nothing_are_one() -> None:
    kinds = [{"type": "bandwidth_limit"}, {"type": "dscp_marking"}]
    assert listed("/v2.0/qos/rule-types", "rule_types", {"a": kinds, "b": kinds[:1], "c": [{"type": "minimum_bandwidth"}]}) == [
        *kinds,
        {"type": "minimum_bandwidth"},
    ]
    assert listed("/v2.0/log/loggable-resources", "loggable_resources", {site: [{"type": "security_group"}] for site in SITES}) == [
        {"type": "security_group"}
    ]
    provider = {"service_type": "L3", "name": "ovn", "default": True}
    assert listed("/v2.0/service-providers", "service_providers", {site: [provider] for site in SITES}) == [provider]
    zones = {site: [{"name": "nova", "resource": kind, "state": "available"} for kind in ("network", "router")] for site in SITES}
    assert listed("/v2.0/availability_zones", "availability_zones", zones) == zones["a"]


@pytest.mark.parametrize(
    ("path", "key", "items"),
    [
        ("/v2.1/os-hosts", "hosts", [{"host_name": "h", "service": "compute", "zone": "z"}]),
        ("/v2.1/os-floating-ip-pools", "floating_ip_pools", [{"name": "public"}]),
        ("/v2.1/os-services", "services", [{"host": "h", "binary": "nova-compute", "id": "i"}]),
        ("/v2.1/os-networks", "networks", [{"id": "n", "label": "l"}]),
    ],
)
def test_lists_of_nova_that_are_short(path: str, key: str, items: list[dict[str, Any]]) -> None:
    assert listed(path, key, {"a": items, "b": items, "c": []}) == items, "equal items of two sites must be listed once"
    others = [{name: f"other {value}" for name, value in item.items()} for item in items]
    assert listed(path, key, {"a": items, "b": others, "c": []}) == [*items, *others]


def test_addresses_of_a_network_at_two_sites_add_up() -> None:
    def item(network: str, used: int) -> dict[str, Any]:
        subnet = {"subnet_id": "s", "cidr": "10.0.0.0/24", "total_ips": 253, "used_ips": used}
        return {"network_id": network, "network_name": "n", "total_ips": 253, "used_ips": used, "subnet_ip_availability": [subnet]}

    found = listed(
        "/v2.0/network-ip-availabilities", "network_ip_availabilities", {"a": [item("x", 1)], "b": [item("x", 2)], "c": [item("y", 5)]}
    )
    expected = item("x", 3) | {"total_ips": 506}
    expected["subnet_ip_availability"][0]["total_ips"] = 506
    assert found == [expected, item("y", 5)]
    fake = Fake(lambda site, _call: {"network_ip_availability": item("x", 1 if site == "a" else 2)} if site != "c" else None)
    one = ask(fake, "network", f"/v2.0/network-ip-availabilities/{IDS[0]}", []).json()
    assert one == {"network_ip_availability": expected}


def test_fields_that_merging_needs_are_asked_for_and_not_shown() -> None:
    asked: list[str] = []

    def answers(site: str, call: Call) -> dict[str, Any]:
        asked.append(call.query)
        item = {"id": "n", "name": site, "created_at": "2" if site == "a" else "1", "revision_number": 3}
        fields = {value for name, value in parse_qsl(call.query) if name == "fields"}
        return {"networks": [{name: value for name, value in item.items() if name in fields}]}

    assert ask(Fake(answers), "network", "/v2.0/networks", [("fields", "name")]).json()["networks"] == [{"name": "a"}]
    assert all({"fields=id", "fields=created_at", "fields=revision_number"} <= set(query.split("&")) for query in asked)


@pytest.mark.parametrize("key", ["instance_type_id", "locked_by", "kernel_id"])
def test_an_order_that_no_answer_shows_is_refused_if_it_matters(key: str) -> None:
    items = {site: [{"id": IDS[index], "name": site, "created": "1", "links": []}] for index, site in enumerate(SITES)}
    reply = listed("/v2.1/servers/detail", "servers", items, [("sort_key", key)])
    assert reply.status == 400
    assert "servers of several sites can't be sorted by" in reply.json()["badRequest"]["message"]
    assert len(listed("/v2.1/servers/detail", "servers", items | {"b": [], "c": []}, [("sort_key", key)])) == 1


def test_numbers_that_an_answer_spells_out_are_sorted_as_numbers() -> None:
    items = {
        "a": [{"id": IDS[0], "name": "x", "created": "1", "OS-DCF:diskConfig": "MANUAL"}],
        "b": [{"id": IDS[1], "name": "x", "created": "1", "OS-DCF:diskConfig": "AUTO"}],
        "c": [],
    }
    found = listed("/v2.1/servers/detail", "servers", items, [("sort_key", "auto_disk_config"), ("sort_dir", "asc")])
    assert [item["OS-DCF:diskConfig"] for item in found] == ["MANUAL", "AUTO"]
    flavors = {site: [{"id": site, "name": site, "swap": swap}] for site, swap in zip(SITES, ("", 512, 64), strict=True)}
    found = listed("/v2.1/flavors/detail", "flavors", flavors, [("sort_key", "swap")])
    assert [item["swap"] for item in found] == ["", 64, 512]


def test_paging_applies_only_in_the_microversions_that_have_it() -> None:
    items = {site: [{"id": index, "created_at": site, "name": site}] for index, site in enumerate(SITES)}
    assert len(listed("/v2.1/os-migrations", "migrations", items, [("limit", "1")], "2.58")) == 3
    assert len(listed("/v2.1/os-migrations", "migrations", items, [("limit", "1")], "2.59")) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(SITES), max_size=8), st.integers(1, 4) | st.none(), st.booleans())
def test_usage_counts_each_server_once_in_all_pages(split: list[str], limit: int | None, detailed: bool) -> None:
    held = {site: [IDS[index] for index, at in enumerate(split) if at == site] for site in SITES}

    def answers(site: str, call: Call) -> dict[str, Any] | None:
        query = dict(parse_qsl(call.query))
        servers = held[site]
        if "marker" in query:
            if query["marker"] not in servers:
                return None
            servers = servers[servers.index(query["marker"]) + 1 :]
        servers = servers[: int(query.get("limit", 1000))]
        usage = {"tenant_id": "p", "total_hours": len(servers), "start": "1", "stop": "2"}
        usage |= {"server_usages": [{"instance_id": each} for each in servers]} if detailed else {}
        body: dict[str, Any] = {"tenant_usages": [usage] if servers else []}
        if len(servers) == int(query.get("limit", 1000)):
            body["tenant_usages_links"] = [{"rel": "next", "href": f"x?marker={servers[-1]}&limit=1"}]
        return body

    fake = Fake(answers)
    query: Query | None = [("limit", str(limit))] if limit else []
    hours, seen = 0, []
    while query is not None:
        body = ask(fake, "compute", "/v2.1/os-simple-tenant-usage", query).json()
        hours += sum(usage["total_hours"] for usage in body["tenant_usages"])
        here = [each["instance_id"] for usage in body["tenant_usages"] for each in usage.get("server_usages", ())]
        assert not detailed or limit is None or len(here) <= limit
        seen += here
        links = body.get("tenant_usages_links")
        query = parse_qsl(urlsplit(links[0]["href"]).query) if links else None
    assert hours == len(split)
    assert not detailed or sorted(seen) == sorted(IDS[: len(split)])


def test_usage_names_sites_that_do_not_answer() -> None:
    fake = Fake(lambda _site, _call: {"tenant_usages": []})
    fake.away = {"b"}
    assert ask(fake, "compute", "/v2.1/os-simple-tenant-usage", []).headers["X-Atoll-Missing"] == "b"
    assert ask(fake, "compute", "/v2.1/os-simple-tenant-usage", [("marker", "x")]).status in {200, 503}
    fake.away = set(SITES)
    assert ask(fake, "compute", "/v2.1/os-simple-tenant-usage", []).status == 503


def filters() -> list[tuple[str, str, str]]:
    """Return service, path and filter of each list that has filters of its own."""
    names = {resource.key: f"/v2.1/{name}" for name, resource in [*COMPUTE.items(), *PROXIES.items()]}
    compute = [("compute", names[key], name) for key, of in parameters.FILTERS.items() if key in names for name in of]
    image = [("image", f"/v2/{key}", name) for key in ("images", "tasks") for name in parameters.FILTERS[key]]
    network = [("network", "/v2.0/networks", name) for name in ("tags", "not-tags-any", "router:external", "changed_since", "fixed_ips")]
    look_ups = {"compute": "/v2.1/servers", "image": "/v2/images", "network": "/v2.0/ports"}
    return [*compute, *image, *network, *((service, path, name) for service, path in look_ups.items() for name in LOOK_UPS[service])]


@pytest.mark.parametrize(("service", "path", "name"), filters())
def test_each_filter_goes_to_each_site_as_it_is(service: str, path: str, name: str) -> None:
    asked: list[list[tuple[str, str]]] = []

    def answers(_site: str, call: Call) -> dict[str, Any]:
        asked.append(parse_qsl(call.query, keep_blank_values=True))
        return {path.rpartition("/")[2].removeprefix("os-").replace("-", "_"): []}

    values = [(name, "in:a,b&c=d"), (name, ""), (name, "é%2F+ ")]
    ask(Fake(answers), service, path, values)
    assert len(asked) == 3
    assert all([pair for pair in query if pair[0] == name] == values for query in asked)
