"""The sites where RBAC policies are created, their deletion, and the closed set of types that they share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import shared_things
from bring_sites import Sites
from multidict import CIMultiDict
from shared_things import NETWORK_BODY, OURS, THEIRS, Cloud, group, trial

from atoll.gateway.bring.rbac_policies import EXTERNAL, SHARED, TYPES
from atoll.gateway.bring.references import NETWORK, SECURITY_GROUP, Reference
from atoll.gateway.bring.service_client import BringRefused
from atoll.gateway.copies.in_use import UNSHARE, InUseCheck, InUseRefusal
from atoll.gateway.request.call import Call
from atoll.gateway.request.headers import ACCEPTS, REFUSAL
from atoll.gateway.resolve.visibility import RBAC_TYPES

ASK = """
import json, pkgutil, importlib
from types import SimpleNamespace
from unittest import mock
from neutron.db.migration.models import head
from neutron.db import rbac_db_models
from neutron_lib.api import definitions
from neutron_lib.plugins import directory
def below(cls):
    for each in cls.__subclasses__():
        yield each
        yield from below(each)
with mock.patch.object(directory, "get_plugin", return_value=SimpleNamespace(supported_extension_aliases=["external-net"])):
    models = {each.object_type: sorted(each.get_valid_actions()) for each in below(rbac_db_models.RBACColumns)}
print(json.dumps([models, [each.name for each in pkgutil.iter_modules(definitions.__path__) if each.name.startswith("rbac_")]]))
"""


def test_every_type_and_action_of_neutron_is_in_the_table():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ASK], capture_output=True, text=True, timeout=300, check=True)
    models, definitions = json.loads(done.stdout.splitlines()[-1])
    known = {name: sorted(each.actions) for name, each in TYPES.items()}
    assert {name: actions for name, actions in known.items() if name != "bgpvpn"} == models, (
        "upstream shares a further type, or by a further action"
    )
    assert definitions == ["rbac_address_groups", "rbac_address_scope", "rbac_bgpvpn", "rbac_security_groups", "rbac_subnetpool"]
    assert set(RBAC_TYPES.values()) == set(TYPES)


@pytest.fixture(autouse=True)
def more_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"ports": "port", "routers": "router", "floatingips": "floatingip", "address-groups": "address_group"}
    monkeypatch.setattr(shared_things, "KEYS", shared_things.KEYS | more)


def call(method: str, path: str, body: Any = None) -> Call:
    return Call(method, "network", path, "", CIMultiDict({"X-Auth-Token": "user"}), None, "req-1", "u").with_(json=body)


def policy(kind: str, identifier: str) -> Call:
    body = {"object_type": kind, "object_id": identifier, "action": SHARED, "target_tenant": "p"}
    return call("POST", "/v2.0/rbac-policies", {"rbac_policy": body})


def test_policy_is_made_where_its_object_was_made(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, nice: Cloud, _views: list[Sites]) -> None:
        lyon.things["networks/n"] = NETWORK_BODY
        assert here.bringer is not None
        assert nice.bringer is not None
        places = nice.bringer.policies
        assert await places.site_for(policy("network", "n")) == "lyon"
        assert await nice.bringer.bring([Reference(NETWORK, "n")], "user") is not None
        assert await places.site_for(policy("network", "n")) == "lyon", "the policy belongs to lyon, because nice has only a copy"
        here.things["networks/m"] = {**NETWORK_BODY, "id": "m"}
        assert await here.bringer.policies.site_for(policy("network", "m")) == "here"
        lyon.things["address-groups/a"] = {"id": "a", "project_id": OURS}
        assert await places.site_for(policy("address_group", "a")) == "lyon"
        for nowhere in (
            policy("network", "x"),
            policy("address_group", "x"),
            policy("new", "x"),
            policy("network", ""),
            call("POST", "/", {}),
        ):
            assert await places.site_for(nowhere) == "nice"

    trial(tmp_path, act)


def test_policy_of_an_object_whose_site_is_away_is_refused(tmp_path: Path):
    """Neutron would answer 400, as if the object did not exist, or share a copy at one site alone."""
    known, unknown = str(uuid4()), str(uuid4())

    async def act(here: Cloud, lyon: Cloud, nice: Cloud, views: list[Sites]) -> None:
        lyon.things[f"networks/{known}"] = {**NETWORK_BODY, "id": known}
        nice.things[f"networks/{unknown}"] = {**NETWORK_BODY, "id": unknown}
        assert nice.bringer is not None
        assert await nice.bringer.bring([Reference(NETWORK, known)], "user") is not None
        (view,) = [each for each in views if each.here == "nice"]
        view.away = [*view.away, "lyon"]
        url = view.urls.pop("lyon")
        places = nice.bringer.policies
        for kind, identifier in (("network", known), ("network", str(uuid4())), ("address_group", str(uuid4()))):
            with pytest.raises(BringRefused) as refused:
                await places.site_for(policy(kind, identifier))
            assert (refused.value.status, refused.value.away) == (503, ("lyon",))
        assert await places.site_for(policy("network", unknown)) == "nice", "its own network needs no other site"
        view.away.remove("lyon")
        view.urls["lyon"] = url
        assert await places.site_for(policy("network", known)) == "lyon"

    trial(tmp_path, act)


@pytest.mark.parametrize("kind", ["network", "address_group"])
def test_a_user_who_may_not_see_an_object_does_not_learn_its_site(tmp_path: Path, kind: str):
    """The answer to a request names the site that gave it."""

    async def act(_here: Cloud, lyon: Cloud, nice: Cloud, _views: list[Sites]) -> None:
        lyon.things["networks/x"] = {**NETWORK_BODY, "id": "x", "project_id": THEIRS}
        lyon.things["address-groups/x"] = {"id": "x", "project_id": THEIRS}
        assert nice.bringer is not None
        assert await nice.bringer.policies.site_for(policy(kind, "x")) == "nice"
        lyon.project = THEIRS
        assert await nice.bringer.policies.site_for(policy(kind, "x")) == "lyon"

    trial(tmp_path, act)


async def lent(lyon: Cloud, here: Cloud, kind: str = "network") -> Call:
    """Have a network or group of lyon shared with our project and used at `here`; return the request that deletes the policy."""
    reference = {"network": Reference(NETWORK, "n"), "security_group": Reference(SECURITY_GROUP, "web")}[kind]
    lyon.things["networks/n"] = {**NETWORK_BODY, "project_id": THEIRS}
    lyon.things["security-groups/id-web"] = {**group("web"), "project_id": THEIRS}
    made = lyon.share(kind, "n" if kind == "network" else "id-web", OURS)
    assert here.bringer is not None
    assert await here.bringer.bring([reference], "user") is not None
    lyon.project = THEIRS
    lyon.things[f"rbac-policies/{made}"]["project_id"] = THEIRS
    return call("DELETE", f"/v2.0/rbac-policies/{made}")


@pytest.mark.parametrize("kind", ["network", "security_group"])
def test_policy_that_is_used_at_another_site_stays(tmp_path: Path, kind: str):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, views: list[Sites]) -> None:
        delete = await lent(lyon, here, kind)
        assert lyon.bringer is not None
        refusal = lyon.bringer.policies.refusal
        assert await refusal(delete) is None
        here.things["ports/p"] = {"id": "p", "network_id": "n", "security_groups": "id-web", "project_id": OURS}
        refused = await refusal(delete)
        assert refused is not None
        assert refused.status == 409
        assert refused.json()["NeutronError"]["message"].endswith("cannot be removed because other objects depend on it.\nDetails: at here")
        body = {"rbac_policy": {"target_tenant": "other"}}
        moved = await refusal(call("PUT", delete.path, body))
        assert moved is not None
        assert moved.status == 409
        for harmless in (
            call("PUT", delete.path, {"rbac_policy": {"target_tenant": OURS}}),
            call("PUT", delete.path, {"rbac_policy": {"target_tenant": "*"}}),
            call("PUT", delete.path, []),
            call("GET", delete.path),
            call("DELETE", "/v2.0/networks/n"),
            call("DELETE", "/v2.0/rbac-policies/other"),
        ):
            assert await refusal(harmless) is None, harmless
        url = views[0].urls.pop("here")
        assert await refusal(delete) is None, "a site that is cut off must not keep the policy: it learns of the deletion later"
        views[0].urls["here"] = url
        lyon.share(kind, "n" if kind == "network" else "id-web")
        assert await refusal(delete) is None, "the deletion must be allowed, because another policy still covers everybody"

    trial(tmp_path, act)


def test_network_that_is_used_at_another_site_stays_shared(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, views: list[Sites]) -> None:
        await lent(lyon, here)
        lyon.share("network", "n")
        lyon.things = {key: each for key, each in lyon.things.items() if each.get("target_tenant") != OURS}
        here.things["ports/p"] = {"id": "p", "network_id": "n", "project_id": OURS}
        assert lyon.bringer is not None
        policies = lyon.bringer.policies
        assert await policies.users_of_network("n", THEIRS) == ["here"]
        assert await policies.users_of_network("other", THEIRS) == []
        look = call("GET", "/v2.0/networks/n", None)
        look.headers[ACCEPTS] = UNSHARE
        reply = await InUseCheck(views[1]).answer(look, policies)
        refusal = InUseRefusal.load(reply.headers[REFUSAL])
        assert refusal.error == "InvalidSharedSetting"
        assert refusal.message == ("Unable to reconfigure sharing settings for network n. Multiple projects are using it, at here.")
        lyon.share("network", "n", OURS)
        assert await policies.users_of_network("n", THEIRS) == [], "a project with a policy of its own must not count"

    trial(tmp_path, act)


def test_site_that_may_not_speak_for_a_project_keeps_nothing_of_it_shared(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        delete = await lent(lyon, here)
        here.things["ports/p"] = {"id": "p", "network_id": "n", "project_id": OURS}
        assert lyon.bringer is not None
        assert await lyon.bringer.policies.refusal(delete) is not None
        lyon.bringer.policies._speaks_for = lambda site, project: (site, project) != ("here", THEIRS)
        assert await lyon.bringer.policies.refusal(delete) is None

    trial(tmp_path, act)


def test_external_network_is_used_by_routers_and_floating_ips(tmp_path: Path):
    async def act(here: Cloud, _lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        assert here.bringer is not None
        uses = here.bringer.policies._uses
        assert not await uses("network", "n", OURS, EXTERNAL)
        here.things["routers/r"] = {"id": "r", "project_id": OURS, "external_gateway_info": {"network_id": "n"}}
        assert await uses("network", "n", OURS, EXTERNAL)
        here.things = {"floatingips/f": {"id": "f", "project_id": OURS, "floating_network_id": "n"}}
        assert await uses("network", "n", OURS, EXTERNAL)
        assert not await uses("network", "n", THEIRS, EXTERNAL)

    trial(tmp_path, act)


def test_others_ask_for_what_is_not_shared(tmp_path: Path):
    async def act(_here: Cloud, _lyon: Cloud, _nice: Cloud, views: list[Sites]) -> None:
        for path in ("/atoll/uses/network/n", "/atoll/uses/image/i?project=p"):
            async with views[0].session.get(views[0].urls["lyon"] + path) as answer:
                assert answer.status == 404

    trial(tmp_path, act)
