"""A request finds at its site what another site knew when it sent it; with Keystone's real tables, and the mesh silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request
from identities import Node
from multidict import CIMultiDict

from atoll.gateway.identity.freshness import PATH, Freshness
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.mesh.record import Refused


class Identity:
    """As the gateway's: pulls at once, and pushes when it is waited for."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def pull(self) -> None:
        self._node.replica.pull()

    async def applied(self) -> bool:
        self._node.push()
        return True


FEEDING = web.RequestKey("feeding", asyncio.Task)


def arriving(*pieces: bytes) -> web.Request:
    """A request whose body comes in pieces."""
    loop = asyncio.get_running_loop()
    body = StreamReader(Mock(_reading_paused=False), 2**16, loop=loop)

    async def feed() -> None:
        for piece in pieces:
            body.feed_data(piece)
            await asyncio.sleep(0.01)
        body.feed_eof()

    request = make_mocked_request("POST", PATH, payload=body)
    request[FEEDING] = loop.create_task(feed())
    return request


class World:
    """Sites that ask one another, and how often they did."""

    def __init__(self, *nodes: Node) -> None:
        self.asked: list[tuple[str, str]] = []
        self.cut: set[str] = set()
        self.fresh = {node.name: Freshness(Link(self, node.name), node.document, Identity(node)) for node in nodes}  # type: ignore[arg-type]

    def follow(self, here: str, site: str) -> None:
        """A request of a site arrives at another one."""
        digest = self.fresh[site].digest()
        asyncio.run(self.fresh[here].follow(site, digest))


class Link:
    """The way from one site to the others."""

    def __init__(self, world: World, here: str) -> None:
        self._world, self.here = world, here

    def reachable(self) -> list[str]:
        return [name for name in self._world.fresh if name != self.here and name not in self._world.cut]

    async def send(self, site: str, call: Call, timeout_s: float) -> Reply:
        if site in self._world.cut:
            raise Unreachable(site, "cut off")
        self._world.asked.append((self.here, site))
        assert f"/{call.service}{call.path}" == PATH
        assert isinstance(call.body, bytes)
        body = call.body

        try:
            answer: Any = await self._world.fresh[site]._answer(arriving(body))
        except web.HTTPException as error:
            return Reply(error.status, CIMultiDict(), b"", site)
        return Reply(answer.status, CIMultiDict(), answer.body, site)


@pytest.fixture
def three(node: Callable[..., Node]) -> tuple[Node, Node, Node]:
    made = node("paris"), node("lyon"), node("nice")
    world = World(*made)
    for one in made:
        for other in made:
            if one is not other:
                world.follow(one.name, other.name)
                asyncio.run(Identity(one).applied())
    return made


def test_what_a_site_has_written_is_there_before_its_request_is_looked_at(three):
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")
    assert marie not in {row[0] for row in lyon.sql("SELECT id FROM user")}
    world.follow("lyon", "paris")
    assert marie in {row[0] for row in lyon.sql("SELECT id FROM user")}
    assert world.asked == [("lyon", "paris")]


def test_what_a_third_site_has_written_comes_by_way_of_the_one_that_asks(three):
    """Paris makes a user, lyon issues a token for it, and a client takes that to nice."""
    paris, _lyon, nice = three
    world = World(*three)
    marie = paris.user("marie")
    world.follow("lyon", "paris")
    world.follow("nice", "lyon")
    assert marie in {row[0] for row in nice.sql("SELECT id FROM user")}
    assert world.asked == [("lyon", "paris"), ("nice", "lyon")]


def test_nothing_is_asked_of_a_site_that_knows_no_more(three):
    paris, lyon, _nice = three
    world = World(*three)
    world.follow("lyon", "paris")
    before = world.fresh["paris"].digest()
    assert len(world.asked) <= 1
    world.asked.clear()
    lyon.user("marie")
    for _ in range(3):
        world.follow("lyon", "paris")
    assert world.asked == [], "this site's document was once what that one's is"
    paris.user("pierre")
    for _ in range(3):
        world.follow("lyon", "paris")
    assert world.asked == [("lyon", "paris")], "once for each state of it"
    asyncio.run(world.fresh["lyon"].follow("paris", before))
    assert world.asked == [("lyon", "paris")], "a request that was on its way for longer"


def test_a_token_of_another_site_has_that_site_asked_once(three):
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")
    for _ in range(3):
        asyncio.run(world.fresh["lyon"].follow_token("paris", "a token"))
    assert world.asked == [("lyon", "paris")]
    assert marie in {row[0] for row in lyon.sql("SELECT id FROM user")}
    asyncio.run(world.fresh["lyon"].follow_token("paris", "another token"))
    assert len(world.asked) == 2


def test_a_site_that_is_cut_off_is_not_waited_for(three):
    paris, lyon, _nice = three
    world = World(*three)
    paris.user("marie")
    digest = world.fresh["paris"].digest()
    world.cut.add("paris")
    asyncio.run(world.fresh["lyon"].follow("paris", digest))
    asyncio.run(world.fresh["lyon"].follow_token("paris", "a token"))
    assert world.asked == []
    world.cut.clear()
    asyncio.run(world.fresh["lyon"].follow_token("paris", "a token"))
    assert world.asked == [("lyon", "paris")]
    assert lyon.sql("SELECT count(*) FROM user WHERE id IN (SELECT user_id FROM local_user WHERE name = 'marie')") == [(1,)]


def test_a_site_that_reaches_us_and_does_not_answer_holds_up_one_request_alone(three, monkeypatch):
    paris, _lyon, _nice = three
    world = World(*three)
    paris.user("marie")
    tried = []

    async def send(site: str, _call: Call, _timeout_s: float) -> Reply:
        tried.append(site)
        raise Unreachable(site, "no answer")

    world.fresh["lyon"]._sites = SimpleNamespace(send=send, reachable=list)  # type: ignore[assignment]
    for _ in range(3):
        world.follow("lyon", "paris")
    assert tried == ["paris"]
    monkeypatch.setattr("atoll.gateway.identity.freshness.AGAIN_S", 0.0)
    world.follow("lyon", "paris")
    assert tried == ["paris"] * 2


def test_what_was_refused_is_asked_for_again(three, monkeypatch):
    paris, lyon, _nice = three
    world = World(*three)
    paris.user("marie")

    def refuse(_part: object) -> None:
        raise Refused("not this one")

    with monkeypatch.context() as patched:
        patched.setattr(lyon.document, "merge_part", refuse)
        world.follow("lyon", "paris")
    world.follow("lyon", "paris")
    assert world.asked == [("lyon", "paris")] * 2
    assert lyon.sql("SELECT count(*) FROM local_user WHERE name = 'marie'") == [(1,)]


def test_a_question_that_comes_in_pieces_is_read_to_its_end(three):
    """A state vector of many sites is larger than what arrives at once."""
    paris, lyon, _nice = three
    world = World(*three)
    paris.user("marie")

    async def act() -> web.StreamResponse:
        state = lyon.document.state_vector()
        return await world.fresh["paris"]._answer(arriving(state[:20], state[20:]))

    assert asyncio.run(act()).status == 200


def test_a_site_that_lies_changes_nothing(three):
    paris, lyon, _nice = three
    world = World(*three)
    before = lyon.document.digest()

    async def send(_site: str, _call: Call, _timeout_s: float) -> Reply:
        return Reply(200, CIMultiDict(), b"nonsense", "paris")

    world.fresh["lyon"]._sites = SimpleNamespace(send=send, reachable=lambda: ["paris"])  # type: ignore[assignment]
    asyncio.run(world.fresh["lyon"].follow("paris", "00" * 8))
    assert lyon.document.digest() == before
    assert paris.document.digest() == world.fresh["paris"]._document.digest()


def test_a_site_that_lacks_more_than_one_answer_holds_goes_on_without(three, monkeypatch):
    paris, lyon, _nice = three
    monkeypatch.setattr("atoll.gateway.identity.freshness.MOST_BYTES", 10)
    world = World(*three)
    marie = paris.user("marie")
    world.follow("lyon", "paris")
    assert marie not in {row[0] for row in lyon.sql("SELECT id FROM user")}
    assert not world.fresh["lyon"]._held.get(world.fresh["paris"].digest()), "it is asked again"
