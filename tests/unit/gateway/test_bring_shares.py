"""Grants on copies: they follow the owner's grants, and end with them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bring_sites import Sites
from multidict import CIMultiDict
from shared_things import FLAVOR_BODY, NETWORK_BODY, OURS, THEIRS, Cloud, group, trial

from atoll.gateway.bring import loans
from atoll.gateway.bring.descriptions import Description
from atoll.gateway.bring.grants import allowed
from atoll.gateway.bring.ledger import Ledger, Loan
from atoll.gateway.bring.references import FLAVOR, IMAGE, NETWORK, SECURITY_GROUP, Reference
from atoll.gateway.bring.service_client import BringRefused
from atoll.gateway.request.call import Call

NETWORK_N = Reference(NETWORK, "n")
POLICY = "/v2.0/rbac-policies/x"


def wrote(site: Cloud, path: str, method: str = "DELETE", service: str = "network") -> None:
    """Tell a site's loans of a write that its services have carried out."""
    assert site.bringer is not None
    site.bringer.loans.on_write(Call(method, service, path, "", CIMultiDict(), None, "req-1"))


async def follow(site: Cloud) -> None:
    """Run each background task of the site's gateway once."""
    assert site.bringer is not None
    loans = site.bringer.loans
    touched, loans._touched = frozenset(loans._touched), set()
    await loans.look(touched)
    await loans.send()


async def bring(site: Cloud, reference: Reference) -> bool:
    assert site.bringer is not None
    site.bringer._bringing.clear()
    try:
        return await site.bringer.bring([reference], "user") is not None
    except BringRefused:
        return False


def owned(site: Cloud) -> None:
    """Create at a site a network of another project that is shared with the test's project."""
    site.things["networks/n"] = {**NETWORK_BODY, "project_id": THEIRS}
    site.share("network", "n", OURS)


def unshare(site: Cloud) -> None:
    site.things = {key: thing for key, thing in site.things.items() if not key.startswith("rbac-policies/")}
    wrote(site, POLICY)


def test_network_that_is_no_longer_shared_is_not_shared_at_other_sites(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        owned(lyon)
        assert await bring(here, NETWORK_N)
        assert [(each["target_tenant"], each["object_id"]) for each in here.policies()] == [(OURS, "n")]
        await follow(lyon)
        assert len(here.policies()) == 1, "the policy must stay while the owner shares the network"
        unshare(lyon)
        await follow(lyon)
        assert here.policies() == []
        assert not await bring(here, NETWORK_N), "a network that nobody shares must not be brought"

    trial(tmp_path, act)


def test_site_that_is_cut_off_is_told_when_it_is_back(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, views: list[Sites]) -> None:
        owned(lyon)
        assert await bring(here, NETWORK_N)
        url = views[0].urls.pop("here")
        unshare(lyon)
        await follow(lyon)
        assert len(here.policies()) == 1
        assert lyon.bringer is not None
        (waits,) = lyon.bringer.loans.list()
        assert (waits["site"], waits["what"]) == ("here", f"stop sharing network n with project {OURS}")
        views[0].urls["here"] = url
        await follow(lyon)
        assert (here.policies(), lyon.bringer.loans.list()) == ([], [])

    trial(tmp_path, act)


def test_a_withdrawal_is_sent_after_a_restart_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loans, "AGAIN_S", 0.01)
    monkeypatch.setattr(loans, "LOOK_S", 0.0)

    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        owned(lyon)
        assert await bring(here, NETWORK_N)
        # The policy is deleted past the gateway, which has been restarted and knows only its ledger.
        lyon.things = {"networks/n": lyon.things["networks/n"]}
        assert lyon.bringer is not None
        task = asyncio.create_task(lyon.bringer.loans.run())
        async with asyncio.timeout(10):
            while here.policies():
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    trial(tmp_path, act)


def test_project_that_still_uses_it_keeps_it_until_it_does_not(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        owned(lyon)
        assert await bring(here, NETWORK_N)
        unshare(lyon)

        async def in_use(request: Any) -> Any:
            from aiohttp import web

            return web.Response(status=409, text="in use") if request.method == "DELETE" else None

        here.fault = in_use
        await follow(lyon)
        assert len(here.policies()) == 1
        assert lyon.bringer is not None
        assert "in use" in lyon.bringer.loans.list()[0]["error"]
        here.fault = None
        await follow(lyon)
        assert (here.policies(), lyon.bringer.loans.list()) == ([], [])

    trial(tmp_path, act)


def test_private_flavor_whose_access_is_removed(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        lyon.things["flavors/f"] = {**FLAVOR_BODY, "os-flavor-access:is_public": False}
        lyon.access = [{"tenant": OURS}]
        assert await bring(here, Reference(FLAVOR, "f"))
        assert here.access == [{"tenant": OURS}]
        lyon.access.clear()
        wrote(lyon, "/v2.1/flavors/f/action", "POST", "compute")
        await follow(lyon)
        assert here.access == []

    trial(tmp_path, act)


def test_security_group_that_is_no_longer_shared(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        lyon.things["security-groups/id-web"] = {**group("web"), "project_id": THEIRS}
        lyon.share("security_group", "id-web", OURS)
        assert await bring(here, Reference(SECURITY_GROUP, "web"))
        assert len(here.policies()) == 1
        unshare(lyon)
        await follow(lyon)
        assert here.policies() == []

    trial(tmp_path, act)


def test_image_whose_member_is_removed(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        image = lyon.add_image(b"data" * 1000, owner=THEIRS, visibility="shared")
        lyon.members[image] = {OURS}
        asked: list[tuple[str, str]] = []

        async def members(request: Any) -> Any:
            from aiohttp import web

            if "/members" in request.path and request.method != "GET":
                asked.append((request.method, request.path))
                return web.json_response({})
            hidden = request.path.startswith("/image/") and request.headers.get("X-Auth-Token") == "user"
            return web.Response(status=404) if hidden else None

        here.fault = members
        assert await bring(here, Reference(IMAGE, image))
        lyon.members.clear()
        wrote(lyon, f"/v2/images/{image}/members/{OURS}", service="image")
        await follow(lyon)
        base = f"/image/v2/images/{image}/members"
        assert asked == [("POST", base), ("PUT", f"{base}/{OURS}"), ("DELETE", f"{base}/{OURS}")]

    trial(tmp_path, act)


def test_nothing_is_granted_on_what_was_made_here(tmp_path: Path):
    """A member site claims that the owner of this site's own network shares it."""

    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        here.things["networks/n"] = {**NETWORK_BODY, "project_id": THEIRS}
        owned(lyon)
        assert not await bring(here, NETWORK_N)
        assert here.policies() == []

    trial(tmp_path, act)


def test_nothing_is_granted_that_one_of_the_owners_sites_does_not_grant(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, nice: Cloud, _views: list[Sites]) -> None:
        owned(lyon)
        nice.things["networks/n"] = {**NETWORK_BODY, "project_id": THEIRS}
        assert not await bring(here, NETWORK_N)
        assert here.policies() == []

    trial(tmp_path, act)


def test_a_copy_of_a_copy_ends_with_the_copy(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, nice: Cloud, views: list[Sites]) -> None:
        owned(lyon)
        assert await bring(nice, NETWORK_N)
        lyon_url = views[0].urls.pop("lyon")
        assert await bring(here, NETWORK_N), "the network is brought from nice, because nice grants its use"
        views[0].urls["lyon"] = lyon_url
        unshare(lyon)
        await follow(lyon)
        assert (len(nice.policies()), len(here.policies())) == (0, 1)
        wrote(nice, POLICY)
        await follow(nice)
        assert here.policies() == []

    trial(tmp_path, act)


def test_only_who_was_believed_can_take_it_back(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, views: list[Sites]) -> None:
        owned(lyon)
        assert await bring(here, NETWORK_N)
        said = {"kind": NETWORK, "id": "n", "project": OURS}
        url = f"{views[0].urls['here']}/atoll/withdrawals"
        async with views[0].session.post(url, json=said, headers={"X-Test-From": "nice"}) as answer:
            assert await answer.json() == {"withdrawn": False}
        # Not even lyon may take the grant back while the owner shares the network there.
        async with views[0].session.post(url, json=said, headers={"X-Test-From": "lyon"}) as answer:
            assert await answer.json() == {"withdrawn": False}
        assert len(here.policies()) == 1
        async with views[0].session.post(url, json={"kind": 1}, headers={"X-Test-From": "lyon"}) as answer:
            assert answer.status == 400

    trial(tmp_path, act)


def test_policy_that_the_owner_makes_here_stays(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, _nice: Cloud, _views: list[Sites]) -> None:
        owned(lyon)
        assert await bring(here, NETWORK_N)
        own = here.share("network", "n", OURS)
        unshare(lyon)
        await follow(lyon)
        assert [each["id"] for each in here.policies()] == [own]

    trial(tmp_path, act)


def test_writes_about_what_is_not_lent_cost_nothing(tmp_path: Path):
    async def act(_here: Cloud, lyon: Cloud, _nice: Cloud, views: list[Sites]) -> None:
        lyon.things["networks/n"] = {**NETWORK_BODY, "project_id": THEIRS}
        views[1].asked.clear()
        for path in ("/v2.0/networks/n", POLICY, "/v2.0/ports"):
            wrote(lyon, path, "PUT")
        await follow(lyon)
        assert views[1].asked == []

    trial(tmp_path, act)


def said(site: str, *granted: str, native: bool = True) -> Description:
    return Description(site, {}, native, granted)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], ([], [])),
        ([said("a", "use")], (["use"], ["a"])),
        ([said("a", "use"), said("b")], ([], ["a", "b"])),
        ([said("a", "use"), said("b", native=False)], (["use"], ["a"])),
        ([said("a"), said("b", "use", native=False)], ([], ["a"])),
        ([said("a", "use", native=False), said("b", "use", native=False)], (["use"], ["a", "b"])),
        ([said("a", "x", "y"), said("b", "y")], (["y"], ["a", "b"])),
    ],
)
def test_allowed_grants(seen: list[Description], expected: tuple[list[str], list[str]]):
    assert allowed(seen) == expected


def test_ledger_survives(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.bring(NETWORK, "n", "lyon")
    ledger.grant(NETWORK, "n", OURS, ["access_as_shared"], ["lyon", "nice"])
    ledger.lend(Loan(IMAGE, "i", OURS, "nice"))
    ledger.end(ledger.loans()[0], "why", 7.0)
    ledger.close()
    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0
    ledger = Ledger(tmp_path / "ledger.db")
    assert ledger.is_brought(NETWORK, "n")
    assert ledger.lenders(NETWORK, "n", OURS) == {"lyon", "nice"}
    assert ledger.granted(NETWORK, "n", OURS) == ("access_as_shared",)
    assert ledger.loans() == [Loan(IMAGE, "i", OURS, "nice", "why", 7.0)]
    assert ledger.is_lent(IMAGE, "i")
    ledger.forget_site("nice")
    assert not ledger.is_lent(IMAGE, "i")
    ledger.forget(NETWORK, "n")
    assert not ledger.is_brought(NETWORK, "n")
    assert ledger.lenders(NETWORK, "n", OURS) == set()
    ledger.close()
