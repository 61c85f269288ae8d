"""External networks stay at their site, and a site that is trusted no further than itself can't make one out of another site's network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bring_sites import running
from multidict import CIMultiDict
from shared_things import NETWORK_BODY, OURS, SUBNET_BODY, THEIRS, Cloud

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.references import NETWORK, SUBNET, Reference
from atoll.gateway.bring.service_client import BringRefused, RemoteResource
from atoll.gateway.bring.site_bound import credible
from atoll.gateway.bring.trust import MemberTrust, SpeaksFor
from atoll.gateway.request.call import Call
from atoll.identifiers import default_group

N = "11111111-1111-1111-1111-111111111111"
NETWORK_N = {**NETWORK_BODY, "id": N}
EXTERNAL = {**NETWORK_N, "router:external": True}
SUBNET_S = {**SUBNET_BODY, "network_id": N}
REFERENCE = Reference(NETWORK, N)
BODY = json.dumps({"server": {"networks": [{"uuid": N}]}}).encode()


def limited(*sites: str, home_of: str = "") -> SpeaksFor:
    """Return the trust in which some sites speak for one project alone."""
    return lambda site, project: site not in sites or (bool(project) and project == home_of)


def held(site: str, body: dict[str, Any]) -> RemoteResource:
    return RemoteResource(site, body)


@pytest.mark.parametrize(
    ("found", "speaks_for", "expected"),
    [
        ([held("nice", EXTERNAL), held("lyon", NETWORK_N)], limited(), ["nice", "lyon"]),
        ([held("nice", EXTERNAL), held("lyon", NETWORK_N)], limited("nice"), ["lyon"]),
        ([held("nice", EXTERNAL), held("lyon", NETWORK_N)], limited("nice", home_of=OURS), ["nice", "lyon"]),
        ([held("nice", EXTERNAL)], limited("nice"), ["nice"]),
        ([held("nice", NETWORK_N), held("lyon", EXTERNAL)], limited("nice"), ["nice", "lyon"]),
        # A site names an owner of its own, for which it speaks.
        ([held("nice", {**EXTERNAL, "project_id": THEIRS}), held("lyon", NETWORK_N)], limited("nice", home_of=THEIRS), ["lyon"]),
        # Two such sites can't confirm each other's claim.
        (
            [held("nice", {**EXTERNAL, "project_id": THEIRS}), held("pau", {**EXTERNAL, "project_id": THEIRS}), held("lyon", NETWORK_N)],
            limited("nice", "pau", home_of=THEIRS),
            ["lyon"],
        ),
    ],
)
def test_sites_whose_description_is_credible(found: list[RemoteResource], speaks_for: SpeaksFor, expected: list[str]) -> None:
    assert [each.site for each in credible(REFERENCE, found, speaks_for)] == expected


def trial(
    tmp_path: Path, trust: SpeaksFor, act: Callable[[Cloud, Bringer], Awaitable[None]], copies: Sequence[str] = ("nice", "lyon")
) -> None:
    """Run with three sites: nice is nearer than lyon, and calls lyon's network an external one."""

    async def main() -> None:
        here, nice, lyon = Cloud("here"), Cloud("nice"), Cloud("lyon")
        for site, network in ((nice, EXTERNAL), (lyon, NETWORK_N)):
            if site.name in copies:
                site.things |= {f"networks/{N}": network, "subnets/s": SUBNET_S}
        async with running(here, nice, lyon) as views:
            with closing(Bringer(views[0], tmp_path, trust=MemberTrust(speaks_for=trust))) as bringer:
                await act(here, bringer)

    asyncio.run(main())


@pytest.mark.parametrize("reference", [REFERENCE, Reference(SUBNET, "s")])
def test_network_is_brought_although_a_site_of_limited_trust_calls_it_external(tmp_path: Path, reference: Reference) -> None:
    async def act(here: Cloud, bringer: Bringer) -> None:
        assert await bringer.bring([reference], "user") is not None
        assert [each["network"]["id"] for each in here.made("networks")] == [N]

    trial(tmp_path, limited("nice"), act)


@pytest.mark.parametrize("reference", [REFERENCE, Reference(SUBNET, "s")])
def test_network_stays_where_its_owners_site_says_so(tmp_path: Path, reference: Reference) -> None:
    async def act(here: Cloud, bringer: Bringer) -> None:
        with pytest.raises(BringRefused, match=r"external network .* is at nice and stays there"):
            await bringer.bring([reference], "user")
        assert here.made("networks") == []

    trial(tmp_path, limited("nice", home_of=OURS), act)


def test_request_is_not_refused_for_the_claim_of_a_site_of_limited_trust(tmp_path: Path) -> None:
    async def act(here: Cloud, bringer: Bringer) -> None:
        here.things[f"security-groups/{default_group(OURS)}"] = {
            "id": default_group(OURS),
            "security_group_rules": [],
            "revision_number": 1,
        }
        call = Call("POST", "compute", "/v2.1/servers", "", CIMultiDict({"X-Auth-Token": "user"}), BODY, "req-1")
        assert await bringer.after(call) is not None
        assert [each["network"]["id"] for each in here.made("networks")] == [N]

    trial(tmp_path, limited("nice"), act)


@pytest.mark.parametrize(("trust", "refused"), [(limited("nice"), False), (limited(), True)])
def test_change_is_not_refused_for_the_claimed_copy_of_a_site_of_limited_trust(tmp_path: Path, trust: SpeaksFor, refused: bool) -> None:
    """nice claims to have a copy of the network, but not the policy that the copies are to get."""

    async def act(here: Cloud, bringer: Bringer) -> None:
        policy = "33333333-3333-3333-3333-333333333333"
        here.things |= {f"networks/{N}": NETWORK_N, f"qos/policies/{policy}": {"id": policy}}
        body = json.dumps({"network": {"qos_policy_id": policy}}).encode()
        change = Call("PUT", "network", f"/v2.0/networks/{N}", "", CIMultiDict({"X-Auth-Token": "user"}), body, "req-1")
        if refused:
            with pytest.raises(BringRefused, match="not at nice"):
                await bringer.everywhere(change)
        else:
            await bringer.everywhere(change)

    trial(tmp_path, trust, act, copies=("nice",))


@pytest.mark.parametrize("hostile", ["..", "", "\ud800"])
def test_service_itself_refuses_an_id_that_no_resource_can_have(tmp_path: Path, hostile: str) -> None:
    async def act(here: Cloud, bringer: Bringer) -> None:
        body = json.dumps({"subnet": {"network_id": hostile, "cidr": "10.0.0.0/24", "ip_version": 4}}).encode()
        call = Call("POST", "network", "/v2.0/subnets", "", CIMultiDict({"X-Auth-Token": "user"}), body, "req-1")
        assert await bringer.after(call) is None
        assert here.changes == []

    trial(tmp_path, limited(), act)
