"""Two sites on one Nova and one Keystone over the Redis of one of them, beside a third site with databases of its own."""

import os
import signal
from collections import Counter

import pytest
from deployment import ApiInside, Deployment, until
from holdings import server

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.errors import AtollError
from atoll.services import engines

SENTENCE = "site lyon can't reach the database that it shares with paris: it answers reads, and can change nothing"


def signs_in(cloud: Deployment, site: str, user: str) -> bool:
    try:
        cloud.api_inside(site, user, "pw")
    except AtollError:
        return False
    return True


def make_user(api: Api, name: str) -> None:
    made = api.expect("identity", "POST", "/users", {"user": {"name": name, "password": "pw", "domain_id": "default"}})["user"]["id"]
    [project] = [each["id"] for each in api.expect("identity", "GET", "/projects")["projects"] if each["name"] == "admin"]
    [role] = [each["id"] for each in api.expect("identity", "GET", "/roles")["roles"] if each["name"] == "member"]
    api.expect("identity", "PUT", f"/projects/{project}/users/{made}/roles/{role}")


def boot(api: Api, tenancy: workload.Tenancy, name: str, zone: str) -> str:
    body = workload.server_body(tenancy, name)
    body["server"] |= {"availability_zone": zone} if zone else {}
    made: str = api.expect("compute", "POST", "/servers", body)["server"]["id"]
    until(lambda: server(api, made)["status"] != "BUILD", f"{name} built")
    found = server(api, made)
    assert found["status"] == "ACTIVE", found.get("fault")
    return made


def listed(api: Api) -> Counter:
    return Counter(each["id"] for each in api.expect("compute", "GET", "/servers")["servers"])


def once(ids: list[str]) -> Counter:
    return Counter(dict.fromkeys(ids, 1))


def users_are_the_same(cloud: Deployment, paris: Api, lyon: Api, nice: Api) -> None:
    for site, api, other in (("paris", paris, "lyon"), ("lyon", lyon, "paris")):
        make_user(api, f"of-{site}")
        until(lambda other=other, site=site: signs_in(cloud, other, f"of-{site}"), f"the user of {site} signs in at {other}", 5)
        until(lambda site=site: signs_in(cloud, "nice", f"of-{site}"), f"the user of {site} signs in at nice")
    make_user(nice, "of-nice")
    until(lambda: signs_in(cloud, "lyon", "of-nice"), "the user of nice signs in at lyon")
    for api in (paris, lyon, nice):
        names = Counter(each["name"] for each in api.expect("identity", "GET", "/users")["users"])
        assert {name: names[name] for name in ("of-paris", "of-lyon", "of-nice")} == {"of-paris": 1, "of-lyon": 1, "of-nice": 1}


def every_api_boots_on_every_host(paris: Api, lyon: Api, nice: Api, tenancy: workload.Tenancy) -> list[str]:
    made = []
    for name, api in (("paris", paris), ("lyon", lyon), ("nice", nice)):
        for zone in ("paris", "lyon"):
            made.append(boot(api, tenancy, f"{name}-{zone}", zone))
            assert server(paris, made[-1])["OS-EXT-SRV-ATTR:host"] == zone
    for name, api in (("paris", paris), ("lyon", lyon)):
        made.append(boot(api, tenancy, f"{name}-default", ""))
        assert server(api, made[-1])["OS-EXT-AZ:availability_zone"] == name, "a server that names no zone must stay at the site"
    for api in (paris, lyon, nice):
        until(lambda api=api: listed(api) == once(made), "each server is in the list once", 10)
        networks = Counter(each["id"] for each in api.expect("network", "GET", "/v2.0/networks")["networks"])
        assert networks[tenancy.network] == 1
    return made


def a_site_that_is_cut_off_reads(cloud: Deployment, paris: Api, lyon: Api, made: list[str]) -> None:
    cloud.atoll("wan", "cut", "lyon")
    network = {"network": {"name": "while-cut"}}
    answers = []

    def is_refused() -> bool:
        answers.append(lyon.call("network", "POST", "/v2.0/networks", network))
        return answers[-1].status == 503

    until(is_refused, "writes are refused")
    assert answers[-1].body["NeutronError"]["message"] == SENTENCE
    for service, path, body in (("compute", "/os-keypairs", {"keypair": {"name": "k"}}), ("identity", "/users", {"user": {"name": "u"}})):
        answer = lyon.call(service, "POST", path, body)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert SENTENCE in str(answer.body)
    until(lambda: listed(lyon) == once(made), "the cut site lists all servers")
    assert lyon.call("identity", "GET", "/users").ok
    assert signs_in(cloud, "lyon", "of-paris")
    paris.expect("network", "POST", "/v2.0/networks", network)
    cloud.atoll("wan", "heal", "lyon")


def both_write_after_healing(paris: Api, lyon: Api, tenancy: workload.Tenancy, made: list[str]) -> None:
    until(lambda: lyon.call("network", "POST", "/v2.0/networks", {"network": {"name": "healed"}}).status == 201, "lyon writes again")
    for api, zone in ((lyon, "paris"), (paris, "lyon")):
        made.append(boot(api, tenancy, f"healed-{zone}", zone))
    for api in (paris, lyon):
        until(lambda api=api: listed(api) == once(made), "nothing is lost, and nothing is there twice", 10)
        names = Counter(each["name"] for each in api.expect("network", "GET", "/v2.0/networks")["networks"])
        assert names["while-cut"] == names["healed"] == 1


def the_owner_of_redis_restarts_it(cloud: Deployment, lyon: Api) -> None:
    os.kill(cloud.pids()["paris/redis"], signal.SIGKILL)
    until(lambda: cloud.processes()["paris/redis"].restarts == 1, "Redis is started again")
    until(lambda: lyon.call("network", "POST", "/v2.0/networks", {"network": {"name": "again"}}).status == 201, "lyon writes again")


def a_site_leaves(cloud: Deployment, paris: Api, made: list[str]) -> None:
    assert "paris has the databases of lyon" in cloud.refused("destroy", "paris", "--yes")
    address = cloud.settings("lyon").host
    here = [each for each in made if server(paris, each)["OS-EXT-SRV-ATTR:host"] == "paris"]
    cloud.atoll("site", "kill", "lyon")
    cloud.atoll("destroy", "lyon", "--yes")
    assert listed(paris) == once(here), "the servers of the other site must stay"
    assert {each["host"] for each in paris.expect("compute", "GET", "/os-services")["services"]} == {"paris", "nice"}
    assert [each["name"] for each in paris.expect("compute", "GET", "/os-aggregates")["aggregates"]] == ["paris"]
    assert not any(address in each["url"] for each in paris.expect("identity", "GET", "/endpoints")["endpoints"])
    assert paris.expect("network", "POST", "/v2.0/networks", {"network": {"name": "alone"}})


@pytest.mark.long
def test_two_sites_on_one_nova_and_one_keystone(make):
    problem, _hint = engines.obstacle("redis")
    if problem:
        pytest.skip(problem)
    cloud = make()
    sites = [{"name": "lyon", "database": {"of": "paris"}}, {"name": "paris", "database": {"start": "redis"}}, {"name": "nice"}]
    cloud.atoll("up", cloud.file(*sites, topology={"preset": "mesh", "defaults": {"delay": "5ms"}}))
    assert "lyon: databases in redis of paris" in cloud.atoll("status")
    paris, lyon, nice = (cloud.api_inside(site) for site in ("paris", "lyon", "nice"))
    assert isinstance(paris, ApiInside)
    users_are_the_same(cloud, paris, lyon, nice)
    tenancy = workload.prepare(paris)
    until(lambda: lyon.call("network", "GET", f"/v2.0/networks/{tenancy.network}").ok, "lyon's replica has the network", 5)
    made = every_api_boots_on_every_host(paris, lyon, nice, tenancy)
    a_site_that_is_cut_off_reads(cloud, paris, lyon, made)
    both_write_after_healing(paris, lyon, tenancy, made)
    the_owner_of_redis_restarts_it(cloud, lyon)
    secret = cloud.settings("lyon").secrets["database"]
    assert secret not in "".join(path.read_text(errors="replace") for path in cloud.root.rglob("*.log"))
    a_site_leaves(cloud, paris, made)
