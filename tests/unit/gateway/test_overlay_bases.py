"""The base of an overlay comes to a site from another one, with the rights of the caller alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable
from hashlib import sha512
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from bring_sites import Site, Sites, running

from atoll.gateway.bring.trust import MemberTrust
from atoll.gateway.edge import Door
from atoll.gateway.overlays import LaunchImages, OverlayBases, api
from atoll.gateway.request.call import Reply

DIGEST = "d" * 64
DATA = b"base" * 1000


class Glance(Site):
    """A site whose Glance lists images as it is asked, to the project that the token names and to administrators."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.roles = ["member", "reader"]
        self.rules: list[str] | None = None
        self.application.router.add_get("/image/v2/images", self._list)
        self.application.router.add_post("/image/v2/images/{id}/members", self._share)
        self.application.router.add_put("/image/v2/images/{id}/members/{member}", self._accept)

    def base(self, data: bytes = DATA, **more: Any) -> str:
        return self.add_image(data, **{"atoll_cloudlet_digest": DIGEST, **more})

    def overlay(self, **more: Any) -> str:
        return self.add_image(b"overlay", **{"atoll_cloudlet_base": DIGEST, **more})

    def sees(self, request: web.Request, image: dict[str, Any]) -> bool:
        token = request.headers["X-Auth-Token"]
        members = self.members.get(image["id"], ())
        return token == "admin" or image["owner"] == token or image["visibility"] in {"public", "community"} or token in members

    async def _share(self, request: web.Request) -> web.Response:
        self.members.setdefault(request.match_info["id"], set()).add((await request.json())["member"])
        return web.json_response({})

    async def _accept(self, _request: web.Request) -> web.Response:
        return web.json_response({})

    async def _list(self, request: web.Request) -> web.Response:
        asked = {name: value for name, value in request.query.items() if name != "limit"}
        listed = [each for each in self.images.values() if self.sees(request, each) and each["visibility"] != "community"]
        return web.json_response({"images": [each for each in listed if all(each.get(name) == value for name, value in asked.items())]})

    async def _show(self, request: web.Request) -> web.Response:
        image = self.images.get(request.match_info["id"])
        if image is None or not self.sees(request, image):
            raise web.HTTPNotFound
        return web.json_response(image)

    async def _upload(self, request: web.Request) -> web.Response:
        answer = await super()._upload(request)
        image = request.match_info["id"]
        self.images[image] |= {
            "size": len(self.data[image]),
            "os_hash_algo": "sha512",
            "os_hash_value": sha512(self.data[image]).hexdigest(),
        }
        return answer

    async def _token(self, request: web.Request) -> web.Response:
        token = request.headers["X-Subject-Token"]
        if token == "junk":
            raise web.HTTPNotFound
        roles = [{"name": name} for name in self.roles]
        rules = {"application_credential": {"access_rules": self.rules}} if self.rules is not None else {}
        return web.json_response({"token": {"project": {"id": token}, "roles": roles, "user": {"id": "u"}, **rules}})


class Gateway:
    """The gateway's API at the first site."""

    def __init__(self, sites: list[Glance], views: list[Sites], trust: MemberTrust) -> None:
        self.sites, self.view = sites, views[0]
        assert sites[0].bringer is not None
        self.bases = OverlayBases(views[0], sites[0].bringer, LaunchImages(views[0], Path("/nowhere")), trust)

    async def ask(self, overlay: str, *wrong: str, token: str = "ours", body: bytes | None = None, path: str | None = None) -> Reply:
        path = path or f"/cloudlet/v1/overlays/{overlay}/base"
        request: Any = SimpleNamespace(raw_path=path, method="POST", headers={"X-Auth-Token": token})
        said = json.dumps({"wrong": wrong}).encode() if body is None else body

        async def admit(_token: str) -> str:
            return ""

        async def read(_limit: int) -> bytes:
            return said

        return await self.bases.answer(request, Door(admit, read))

    async def refused(self, *arguments: str, **more: Any) -> tuple[int, str]:
        reply = await self.ask(*arguments, **more)
        return reply.status, reply.json()["error"]["message"]


Trial = Callable[[Gateway, Glance, Glance, Glance], Awaitable[None]]


def run(directory: Path, trial: Trial, trust: MemberTrust | None = None) -> None:
    async def main() -> None:
        sites = [Glance(name) for name in ("here", "lyon", "nice")]
        async with running(*sites, data=directory) as views:
            gateway = Gateway(sites, views, trust or MemberTrust())
            try:
                await trial(gateway, *sites)
            finally:
                await gateway.bases.stop()
                for site in sites:
                    await site.bringer.stop()

    asyncio.run(main())


def test_base_is_brought_once_and_keeps_its_id_owner_and_properties(tmp_path):
    async def trial(gateway: Gateway, here: Glance, lyon: Glance, _nice: Glance) -> None:
        overlay, base = here.overlay(), lyon.base()
        replies = await asyncio.gather(*(gateway.ask(overlay) for _ in range(5)))
        assert [(reply.status, reply.json()) for reply in replies] == [(200, {"image": base})] * 5
        assert here.data[base] == DATA
        assert {name: here.images[base][name] for name in ("owner", "atoll_cloudlet_digest", "visibility")} == {
            "owner": "ours",
            "atoll_cloudlet_digest": DIGEST,
            "visibility": "private",
        }
        gateway.view.asked.clear()
        assert (await gateway.ask(overlay)).json() == {"image": base}
        assert {site for site, _method, _path in gateway.view.asked} == {"here"}, "a base of this site costs no other site anything"

    run(tmp_path, trial)


def test_base_that_the_caller_cannot_read_is_not_brought(tmp_path):
    async def trial(gateway: Gateway, here: Glance, lyon: Glance, _nice: Glance) -> None:
        overlay, private = here.overlay(visibility="public"), lyon.base(owner="theirs")
        hinted = here.overlay(visibility="public", atoll_cloudlet_base_image=private)
        absent = here.overlay(visibility="public", atoll_cloudlet_base="e" * 64)
        answers = [await gateway.refused(each) for each in (overlay, hinted, absent)]
        assert {status for status, _message in answers} == {404}
        assert {message.replace("e" * 16, "d" * 16) for _status, message in answers} == {
            "no site that can be reached has an image that you can use as the overlay's base dddddddddddddddd"
        }, "a caller does not learn whether another project has the base"
        assert private not in here.images
        lyon.members[private] = {"ours"}
        lyon.images[private]["visibility"] = "shared"
        assert (await gateway.ask(overlay)).json() == {"image": private}

    run(tmp_path, trial)


def test_overlay_that_the_caller_cannot_read_leads_to_nothing(tmp_path):
    async def trial(gateway: Gateway, here: Glance, lyon: Glance, _nice: Glance) -> None:
        secret, plain = here.overlay(owner="theirs"), here.add_image(b"x")
        malformed = here.overlay(atoll_cloudlet_base="../x")
        lyon.base()
        absent = str(uuid.uuid4())
        assert [status for status, _ in [await gateway.refused(each) for each in (secret, absent)]] == [404, 404]
        assert (await gateway.refused(secret))[1].replace(secret, "") == (await gateway.refused(absent))[1].replace(absent, "")
        assert [(await gateway.refused(each))[0] for each in (plain, malformed)] == [409, 409]
        assert {site for site, _method, _path in gateway.view.asked} == {"here"}

    run(tmp_path, trial)


@pytest.mark.parametrize(
    ("token", "roles", "rules", "status"),
    [("", ["member"], None, 401), ("junk", ["member"], None, 401), ("ours", ["reader"], None, 403), ("ours", ["member"], [], 403)],
)
def test_token_that_may_create_no_server_brings_nothing(tmp_path, token, roles, rules, status):
    async def trial(gateway: Gateway, here: Glance, lyon: Glance, _nice: Glance) -> None:
        here.roles, here.rules = roles, rules
        overlay, base = here.overlay(), lyon.base()
        assert (await gateway.refused(overlay, token=token))[0] == status
        assert base not in here.images

    run(tmp_path, trial)


def test_malformed_requests(tmp_path):
    async def trial(gateway: Gateway, here: Glance, _lyon: Glance, _nice: Glance) -> None:
        overlay = here.overlay()
        for body in (b"[]", b"{", b'{"wrong": 1}', b'{"wrong": ["../x"]}', b'{"more": 1}', b'{"wrong": [[]]}', b"[" * 4000):
            assert (await gateway.refused(overlay, body=body))[0] == 400, body
        many = json.dumps({"wrong": [str(uuid.uuid4()) for _ in range(17)]}).encode()
        assert (await gateway.refused(overlay, body=many))[0] == 400
        for path in (
            "/cloudlet/",
            "/cloudlet/v1/overlays/x/base",
            f"/cloudlet/v1/overlays/{overlay}/base?x",
            f"/cloudlet/v1/overlays/{overlay}",
        ):
            assert (await gateway.refused(overlay, path=path))[0] == 404, path

    run(tmp_path, trial)


def test_site_of_limited_trust_speaks_for_its_own_projects_only(tmp_path):
    """A site that was broken into calls anything a base, with any owner: its image must not be brought, and not delay the right one."""

    async def trial(gateway: Gateway, here: Glance, lyon: Glance, nice: Glance) -> None:
        overlay = here.overlay(owner="theirs", visibility="public")
        for owner in ("ours", "theirs", "homed"):
            lyon.base(b"wrong", owner=owner, visibility="public")
        assert (await gateway.refused(overlay))[0] == 404
        right = nice.base(owner="admins", visibility="public")
        assert (await gateway.ask(overlay)).json() == {"image": right}
        lyons = here.overlay(owner="homed", visibility="public", atoll_cloudlet_base="f" * 64)
        own = lyon.base(owner="homed", visibility="public", atoll_cloudlet_digest="f" * 64)
        assert (await gateway.ask(lyons)).json() == {"image": own}, "the owner of the overlay is homed there, and so is its base"

    run(tmp_path, trial, MemberTrust(["lyon"], lambda site, project: site != "lyon" or project == "homed"))


def test_malformed_answer_of_a_site_does_not_hide_those_of_others(tmp_path):
    async def trial(gateway: Gateway, here: Glance, lyon: Glance, nice: Glance) -> None:
        overlay, base = here.overlay(), nice.base()
        for said in (b"[1]", b"{", b'{"images": 1}', b'{"images": [1]}', b'{"images": {"a": 1}}', b"[" * 100_000):

            async def lie(request: web.Request, said: bytes = said) -> web.Response | None:
                return web.Response(body=said) if request.path == "/image/v2/images" else None

            lyon.fault = lie
            assert (await gateway.ask(overlay)).json() == {"image": base}, said
            here.images.pop(base)
            here.data.pop(base)
        nice.images.clear()
        status, message = await gateway.refused(overlay)
        assert (status, message.rpartition(", ")[2]) == (503, "and lyon can't be reached")

    run(tmp_path, trial)


def test_images_that_were_found_wrong_are_replaced(tmp_path):
    async def trial(gateway: Gateway, here: Glance, lyon: Glance, nice: Glance) -> None:
        overlay, wrong = here.overlay(), here.base(b"wrong")
        assert (await gateway.ask(overlay)).json() == {"image": wrong}
        assert await gateway.refused(overlay, wrong) == (
            404,
            "no site that can be reached has another image that is the overlay's base dddddddddddddddd",
        )
        also, right = lyon.base(b"also wrong"), nice.base()
        assert (await gateway.ask(overlay, wrong, also)).json() == {"image": right}
        assert also not in here.images

    run(tmp_path, trial)


def test_own_image_comes_before_the_hinted_one_and_that_before_others(tmp_path):
    async def trial(gateway: Gateway, here: Glance, lyon: Glance, nice: Glance) -> None:
        public, own, hinted = (
            lyon.base(owner="x", visibility="public"),
            nice.base(owner="ours"),
            nice.base(owner="y", visibility="public"),
        )
        overlay = here.overlay(owner="theirs", visibility="public", atoll_cloudlet_base_image=hinted)
        assert (await gateway.ask(overlay)).json() == {"image": own}
        assert (await gateway.ask(overlay, own)).json() == {"image": hinted}
        assert (await gateway.ask(overlay, own, hinted)).json() == {"image": public}

    run(tmp_path, trial)


def test_next_image_is_brought_if_the_data_of_the_first_are_wrong(tmp_path):
    """The site's Glance knows a hash that its gateway's data do not have."""

    async def trial(gateway: Gateway, here: Glance, lyon: Glance, nice: Glance) -> None:
        overlay = here.overlay()
        liar = lyon.base(owner="ours")
        lyon.data[liar] = b"x" * len(DATA)
        right = nice.base(owner="theirs", visibility="public")
        assert (await gateway.ask(overlay)).json() == {"image": right}
        assert here.images.get(liar, {}).get("status") != "active"

    run(tmp_path, trial)


def test_unreachable_site_that_may_have_the_base_is_named(tmp_path):
    async def trial(gateway: Gateway, here: Glance, _lyon: Glance, _nice: Glance) -> None:
        gateway.view.away = ["metz"]
        status, message = await gateway.refused(here.overlay())
        assert status == 503
        assert message.endswith("the overlay's base dddddddddddddddd, and metz can't be reached")

    run(tmp_path, trial)


def test_long_transfer_is_answered_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(api, "WAIT_S", 0.01)

    async def trial(gateway: Gateway, here: Glance, lyon: Glance, _nice: Glance) -> None:
        held = asyncio.Event()

        async def wait(request: web.Request) -> None:
            if request.path.endswith("/chunks"):
                await held.wait()

        lyon.fault = wait
        overlay, base = here.overlay(), lyon.base()
        first = await gateway.ask(overlay)
        assert (first.status, first.json()) == (202, {"overlay": overlay})
        while (other := await gateway.ask(overlay, token="theirs")).status == 202:
            pass
        assert other.status == 404, "another user's request does not join this one"
        held.set()
        while (reply := await gateway.ask(overlay)).status == 202:
            pass
        assert reply.json() == {"image": base}

    run(tmp_path, trial)


def test_one_project_does_not_take_all_transfers(tmp_path, monkeypatch):
    monkeypatch.setattr(api, "WAIT_S", 0.01)

    async def trial(gateway: Gateway, here: Glance, lyon: Glance, _nice: Glance) -> None:
        held = asyncio.Event()

        async def wait(request: web.Request) -> None:
            if request.path.endswith("/chunks"):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(held.wait(), 30)

        lyon.fault = wait
        lyon.base(visibility="public")
        overlays = [here.overlay(visibility="public") for _ in range(api.MOST_OF_PROJECT + 1)]
        statuses = [(await gateway.ask(each)).status for each in overlays]
        assert statuses == [202] * api.MOST_OF_PROJECT + [503]
        assert (await gateway.ask(overlays[0], token="theirs")).status == 202
        held.set()

    run(tmp_path, trial)
