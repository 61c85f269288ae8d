"""Resources that are created for a request that fails are deleted again, also if the gateway dies at any point in between."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from bring_sites import Sites, running
from multidict import CIMultiDict
from shared_things import FLAVOR_BODY, NETWORK_BODY, OURS, SUBNET_BODY, Cloud, group, rule

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.ledger import CopyCreation, Ledger
from atoll.gateway.bring.references import FLAVOR, KEY_PAIR, NETWORK, SECURITY_GROUP, Reference
from atoll.gateway.bring.service_client import BringRefused
from atoll.gateway.request.call import Call, Reply, Unreachable

KEY = {"name": "k", "public_key": "ssh-rsa A", "type": "ssh", "user_id": "u"}
BROUGHT = {
    "networks/n": (Reference(NETWORK, "n"), {"networks/n": NETWORK_BODY, "subnets/s": SUBNET_BODY}),
    "flavors/f": (Reference(FLAVOR, "f"), {"flavors/f": FLAVOR_BODY}),
    "security-groups/id-web": (Reference(SECURITY_GROUP, "web"), {"security-groups/id-web": group("web")}),
    "os-keypairs/k": (Reference(KEY_PAIR, "k"), {"os-keypairs/k": KEY}),
}
"""By the path of what is created here: the reference, and what lyon has."""


class Gateway:
    """This site's gateway, whose process can be made to die at a request to a service of its site.

    Args:
        view: its way to the sites.
        data: its directory.
    """

    def __init__(self, view: Sites, data: Path) -> None:
        self.died = asyncio.Event()
        self.left = data.with_name(f"{data.name}-left")
        """The directory as the dead process left it."""
        self._data = data
        self._at: tuple[str, str, bool] | None = None
        self._send = view.send
        view.send = self._dying

    def die_at(self, method: str, pattern: str, *, answered: bool) -> None:
        """Die at the next request of a method to a path: before it is sent, or when its answer has come."""
        self._at = method, pattern, answered

    async def _dying(self, site: str, call: Call, timeout_s: float = 30.0) -> Reply:
        at = self._at
        if site != "here" or at is None or call.method != at[0] or not re.search(at[1], call.path):
            return await self._send(site, call, timeout_s)
        self._at = None
        if at[2]:
            await self._send(site, call, timeout_s)
        self.die()
        await asyncio.Event().wait()  # a dead process does nothing more
        raise AssertionError

    def die(self) -> None:
        shutil.copytree(self._data, self.left)
        self.died.set()


@contextmanager
def bringer_of(view: Sites, data: Path) -> Iterator[Bringer]:
    data.mkdir(exist_ok=True)
    with closing(Bringer(view, data)) as bringer:
        yield bringer


def trial(act: Callable[[Cloud, Cloud, Sites], Awaitable[None]]) -> None:
    async def main() -> None:
        here, lyon = Cloud("here"), Cloud("lyon")
        async with running(here, lyon) as views:
            await act(here, lyon, views[0])

    asyncio.run(main())


async def dies(view: Sites, data: Path, work: Callable[[Bringer, Gateway], Awaitable[Any]]) -> list[CopyCreation]:
    """Have a gateway die during some work, and its successor settle what it left; return the entries that stay."""
    gateway = Gateway(view, data)
    with bringer_of(view, data) as bringer:
        task = asyncio.create_task(work(bringer, gateway))
        async with asyncio.timeout(10):
            await gateway.died.wait()
        with bringer_of(view, gateway.left) as successor:
            await successor.abandoned.settle()
            left = successor._ledger.abandoned_creations()
        await end(task, bringer)
    return left


async def end(task: asyncio.Task[Any], bringer: Bringer) -> None:
    """End a request and what was brought for it, which goes on without the request."""
    tasks = [task, *(bringing.task for bringing in bringer._bringing.values())]
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("path", BROUGHT)
def test_creations_of_a_gateway_that_died_are_deleted(tmp_path: Path, path: str, answered: bool) -> None:
    reference, things = BROUGHT[path]

    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things |= things

        async def work(bringer: Bringer, gateway: Gateway) -> None:
            gateway.die_at("POST", f"/{path.partition('/')[0]}$", answered=answered)
            await bringer.bring([reference], "user")

        assert await dies(view, tmp_path / "data", work) == []
        assert path not in here.things

    trial(act)


@pytest.mark.parametrize(("pattern", "answered"), [("/subnets$", False), ("/subnets$", True)])
def test_parts_that_were_not_there_yet_make_no_difference(tmp_path: Path, pattern: str, answered: bool) -> None:
    reference, things = BROUGHT["networks/n"]

    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things |= things

        async def work(bringer: Bringer, gateway: Gateway) -> None:
            gateway.die_at("POST", pattern, answered=answered)
            await bringer.bring([reference], "user")

        assert await dies(view, tmp_path / "data", work) == []
        assert "networks/n" not in here.things

    trial(act)


@pytest.mark.parametrize("path", BROUGHT)
def test_resources_brought_by_a_gateway_that_died_during_the_request_are_deleted(tmp_path: Path, path: str) -> None:
    reference, things = BROUGHT[path]

    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things |= things

        async def work(bringer: Bringer, gateway: Gateway) -> None:
            await bringer.bring([reference], "user")
            gateway.die()

        assert await dies(view, tmp_path / "data", work) == []
        assert path not in here.things

    trial(act)


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("path", BROUGHT)
def test_undo_that_a_gateway_died_in_is_completed(tmp_path: Path, path: str, answered: bool) -> None:
    reference, things = BROUGHT[path]

    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things |= things

        async def work(bringer: Bringer, gateway: Gateway) -> None:
            brought = await bringer.bring([reference], "user")
            assert brought is not None
            gateway.die_at("DELETE", f"/{path}$", answered=answered)
            await brought.undo()

        assert await dies(view, tmp_path / "data", work) == []
        assert path not in here.things

    trial(act)


def test_resources_that_a_request_used_are_never_deleted(tmp_path: Path) -> None:
    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things["networks/n"] = NETWORK_BODY

        async def work(bringer: Bringer, gateway: Gateway) -> None:
            brought = await bringer.bring([Reference(NETWORK, "n")], "user")
            assert brought is not None
            brought.keep()
            gateway.die()

        assert await dies(view, tmp_path / "data", work) == []
        assert here.deleted() == []

    trial(act)


def test_resources_in_use_stay_and_are_recorded_as_copies(tmp_path: Path) -> None:
    """The gateway died between Neutron's answer and its own note."""

    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things["networks/n"] = NETWORK_BODY

        async def in_use(request: web.Request) -> web.Response | None:
            return web.Response(status=409) if request.method == "DELETE" else None

        async def work(bringer: Bringer, gateway: Gateway) -> None:
            gateway.die_at("POST", "/networks$", answered=True)
            await bringer.bring([Reference(NETWORK, "n")], "user")

        here.fault = in_use
        data = tmp_path / "data"
        assert await dies(view, data, work) == []
        assert "networks/n" in here.things
        with closing(Ledger(tmp_path / "data-left" / "ledger.db")) as ledger:
            assert ledger.is_brought(NETWORK, "n")

    trial(act)


def test_another_resource_under_the_id_is_not_deleted(tmp_path: Path) -> None:
    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things["flavors/f"] = FLAVOR_BODY

        gateway = Gateway(view, tmp_path / "data")
        with bringer_of(view, tmp_path / "data") as bringer:
            gateway.die_at("POST", "/flavors$", answered=False)
            task = asyncio.create_task(bringer.bring([Reference(FLAVOR, "f")], "user"))
            async with asyncio.timeout(10):
                await gateway.died.wait()
            here.things["flavors/f"] = {**FLAVOR_BODY, "ram": 4096}
            with bringer_of(view, gateway.left) as successor:
                await successor.abandoned.settle()
                assert successor._ledger.abandoned_creations() == []
            await end(task, bringer)
        assert here.deleted() == []
        assert here.things["flavors/f"]["ram"] == 4096

    trial(act)


def test_nothing_is_noted_for_what_is_here_already(tmp_path: Path) -> None:
    """A network of another project that is shared with this one: only the access is missing."""

    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        theirs = {**NETWORK_BODY, "project_id": "theirs"}
        lyon.things["networks/n"] = theirs
        lyon.share("network", "n", OURS)
        here.things["networks/n"] = theirs

        async def work(bringer: Bringer, gateway: Gateway) -> None:
            gateway.die_at("POST", "/networks$", answered=True)
            await bringer.bring([Reference(NETWORK, "n")], "user")

        assert await dies(view, tmp_path / "data", work) == []
        assert here.deleted() == []

    trial(act)


WEB = "5a6cf0b5-9d6f-4f4a-8f5b-0e9e1f6c7a11"
PARTS = {
    "network": [("/networks$", True), ("/subnets$", False), ("/subnets$", True), ("/tags$", False)],
    "group": [
        ("/security-groups$", True),
        ("/default-egress$", False),
        ("/security-group-rules$", False),
        ("/security-group-rules$", True),
    ],
    "flavor": [("/flavors$", True), ("/os-extra_specs$", False)],
}
"""By what is brought, the requests at which the gateway dies when something is there, and whether they were answered."""

WHOLE = {
    "network": ({"networks/n": NETWORK_BODY, "subnets/s": SUBNET_BODY}, {"networks": [{"uuid": "n"}]}),
    "implied": ({"networks/n": NETWORK_BODY, "subnets/s": SUBNET_BODY}, {}),
    "group": (
        {f"security-groups/{WEB}": {**group("web", rule("a", WEB), rule("b", WEB)), "id": WEB}},
        {"networks": "none", "security_groups": [{"name": "web"}]},
    ),
    "flavor": ({"flavors/f": FLAVOR_BODY}, {"networks": "none", "flavorRef": "f"}),
}
"""The things that lyon has, and the fields of a server that needs them."""


def made_at(here: Cloud) -> dict[str, Any]:
    """Return all that a site has, without what Neutron chooses."""
    tags = {path: body for method, path, _token, body in here.changes if method in {"PUT", "POST"} and ("tags" in path or "specs" in path)}
    return {**{key: {**thing, "tenant_id": ""} for key, thing in here.things.items()}, **tags}


@pytest.mark.parametrize(
    ("what", "pattern", "answered"),
    [(what, *at) for what, points in {**PARTS, "implied": PARTS["network"]}.items() for at in points],
)
def test_next_request_makes_whole_what_a_dead_process_left_in_part(tmp_path: Path, what: str, pattern: str, answered: bool) -> None:
    """The service would accept the request with what is there: a server with other rules, or none of the subnets."""
    things, fields = WHOLE[what]
    reference = {"flavor": Reference(FLAVOR, "f"), "group": Reference(SECURITY_GROUP, "web")}.get(what, Reference(NETWORK, "n"))
    call = Call("POST", "compute", "/v2.1/servers", "", CIMultiDict(), b"", "r", "u").with_(json={"server": {"name": "s", **fields}})
    call.headers["X-Auth-Token"] = "user"

    async def whole(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things.update(things)
        with bringer_of(view, tmp_path / "whole") as bringer:
            await bringer.bring([reference], "user")
        expected.update(made_at(here))

    async def in_part(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things.update(things)
        gateway = Gateway(view, tmp_path / "data")
        with bringer_of(view, tmp_path / "data") as bringer:
            gateway.die_at("DELETE" if "egress" in pattern else "PUT" if "tags" in pattern else "POST", pattern, answered=answered)
            task = asyncio.create_task(bringer.bring([reference], "user"))
            async with asyncio.timeout(10):
                await gateway.died.wait()
            assert made_at(here) != expected or answered
            with bringer_of(view, gateway.left) as successor:
                brought = await successor.ahead(call)
                assert brought is not None
                assert made_at(here) == expected
                brought.keep()
                await successor.abandoned.settle()
                assert made_at(here) == expected, "a request uses it"
                assert await successor.ahead(call) is None, "it is whole"
            await end(task, bringer)

    expected: dict[str, Any] = {}
    trial(whole)
    trial(in_part)


def test_request_that_fails_leaves_nothing_of_what_it_made_whole(tmp_path: Path) -> None:
    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things.update(WHOLE["network"][0])
        gateway = Gateway(view, tmp_path / "data")
        with bringer_of(view, tmp_path / "data") as bringer:
            gateway.die_at("POST", "/networks$", answered=True)
            task = asyncio.create_task(bringer.bring([Reference(NETWORK, "n")], "user"))
            async with asyncio.timeout(10):
                await gateway.died.wait()
            with bringer_of(view, gateway.left) as successor:
                brought = await successor.bring([Reference(NETWORK, "n")], "user")
                assert brought is not None
                await brought.undo()
                assert "networks/n" not in here.things
                assert successor._ledger.abandoned_creations() == []
            await end(task, bringer)

    trial(act)


def test_deletion_that_a_service_does_not_answer_is_tried_again(tmp_path: Path) -> None:
    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things["flavors/f"] = FLAVOR_BODY
        send, cut = view.send, True

        async def cutting(site: str, call: Call, timeout_s: float = 30.0) -> Reply:
            if cut and call.method == "DELETE":
                raise Unreachable(site, "it does not answer")
            return await send(site, call, timeout_s)

        view.send = cutting
        with bringer_of(view, tmp_path / "data") as bringer:
            brought = await bringer.bring([Reference(FLAVOR, "f")], "user")
            assert brought is not None
            await brought.undo()
            await bringer.abandoned.settle()
            assert "flavors/f" in here.things
            cut = False
            await bringer.abandoned.settle()
            assert "flavors/f" not in here.things
            assert bringer._ledger.abandoned_creations() == []

    trial(act)


def test_creation_that_a_service_refuses_leaves_no_entry(tmp_path: Path) -> None:
    async def act(here: Cloud, lyon: Cloud, view: Sites) -> None:
        lyon.things["flavors/f"] = FLAVOR_BODY
        here.refuse = "flavors"
        with bringer_of(view, tmp_path / "data") as bringer, pytest.raises(BringRefused):
            await bringer.bring([Reference(FLAVOR, "f")], "user")
        with closing(Ledger(tmp_path / "data" / "ledger.db")) as ledger:
            assert ledger.abandoned_creations() == []

    trial(act)
