"""A site of another machine, here another state directory, joins with a token, becomes a member, leaves, and is revoked."""

import json
from functools import partial

import pytest
from deployment import Deployment, until

from atoll.bench.api import Api
from atoll.errors import AtollError


@pytest.fixture(scope="module")
def founded(make, base_ports) -> Deployment:
    made: Deployment = make()
    made.atoll("up", made.file({"name": "paris", "port": next(base_ports)}))
    return made


@pytest.fixture(scope="module")
def joined(make, base_ports, founded, tmp_path_factory) -> Deployment:
    made: Deployment = make()
    secret = tmp_path_factory.mktemp("secret") / "admin"
    secret.touch(mode=0o600)
    secret.write_text(founded.settings("paris").secrets["admin"])
    token = founded.atoll("site", "invite", "nice").strip()
    port, free_port = str(next(base_ports)), str(next(base_ports))
    assert "nice has joined atoll" in made.atoll("site", "join", token, "--port", port, "--admin-password-file", secret)
    assert "is in use by" in made.refused("--state", made.root.with_name("other"), "site", "join", token, "--port", port)
    assert "was already used" in made.refused("--state", made.root.with_name("other"), "site", "join", token, "--port", free_port)
    return made


def members(cloud: Deployment, site: str) -> dict[str, str]:
    return {each["name"]: each["state"] for each in json.loads(cloud.atoll("mesh", site, "--json"))["members"]}


def zones(api: Api) -> set[str]:
    return {each["zoneName"] for each in api.expect("compute", "GET", "/os-availability-zone")["availabilityZoneInfo"]} - {"internal"}


def knows(api: Api, user: str) -> bool:
    return api.call("identity", "GET", f"/users/{user}").status == 200


def test_token_that_is_none_is_refused(make):
    other = make()
    assert "no join token" in other.refused("site", "join", "atoll1.abc")
    assert not other.root.exists(), "a refused join must create no files"


def test_joined_site_is_one_of_the_cloud_until_it_is_revoked(founded, joined):
    # One test, because tests run in any order and each step is final.
    is_one_of_the_cloud(founded, joined)
    is_shut_out(founded, joined)


def is_one_of_the_cloud(founded: Deployment, joined: Deployment) -> None:
    until(lambda: members(founded, "paris") == {"paris": "alive", "nice": "alive"}, "paris sees nice", 30)
    until(lambda: members(joined, "nice") == {"paris": "alive", "nice": "alive"}, "nice sees paris", 30)
    here, there = founded.api("paris"), joined.api("nice")
    until(lambda: zones(here) == zones(there) == {"paris", "nice"}, "one cloud", 30)
    for near, far in ((here, there), (there, here)):
        user = near.expect("identity", "POST", "/users", {"user": {"name": f"of-{id(near)}", "domain_id": "default"}})["user"]["id"]
        until(partial(knows, far, user), "the other one knows", 15)
    token = {"X-Auth-Token": there.token}
    assert here.call("compute", "GET", "/servers", headers=token).status == 200


def test_joined_site_cannot_invite_and_says_why(joined):
    assert "it does not have the authority's key" in joined.refused("site", "invite", "rome")


def is_shut_out(founded: Deployment, joined: Deployment) -> None:
    here, there = founded.api("paris"), joined.api("nice")
    token = {"X-Auth-Token": there.token}
    until(lambda: here.call("compute", "GET", "/servers", headers=token).status == 200, "its token is good", 15)
    founded.atoll("site", "revoke", "nice", "--yes")
    assert members(founded, "paris")["nice"] == "revoked"
    until(lambda: here.call("compute", "GET", "/servers", headers=token).status == 401, "its token is good no more", 15)
    user = there.expect("identity", "POST", "/users", {"user": {"name": "intruder", "domain_id": "default"}})["user"]["id"]
    with pytest.raises(AssertionError, match="not true after"):
        until(lambda: knows(here, user), "what it writes is taken", 5)
    assert zones(here) == {"paris"}
    assert "refused" in (founded.root / "sites/paris/log/gateway.log").read_text()
    with pytest.raises(AtollError):
        Api(founded.settings("paris").public_url("identity", "/v3"), joined.settings("nice").secrets["gateway"], "gateway-nice").sign_in()
