"""A request finds at its site the identity of the site that sent it; with Keystone's real tables, and the mesh silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request
from identities import Node
from multidict import CIMultiDict

from atoll.gateway.groups import Groups
from atoll.gateway.identity.freshness import PATH, Freshness, IdentityState
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.mesh.refusals import Refused


class Identity:
    """A synchroniser that pulls at once, and pushes when a caller waits."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def pull(self) -> None:
        self._node.replica.pull()

    async def applied(self) -> bool:
        self._node.push()
        return True


FEEDING = web.RequestKey("feeding", asyncio.Task)


def arriving(*pieces: bytes) -> web.Request:
    """Return a request whose body arrives in pieces."""
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
    """Sites that ask one another, and a count of the questions."""

    def __init__(self, *nodes: Node, owners: dict[str, str] | None = None) -> None:
        self.owners = owners or {}
        self.asked: list[tuple[str, str]] = []
        self.cut: set[str] = set()
        self.state: dict[str, IdentityState] = {}
        self.fresh = {node.name: self._freshness(node) for node in nodes}

    def _freshness(self, node: Node) -> Freshness:
        identity: Any = Identity(node)
        link: Any = Link(self, node.name)
        self.state[node.name] = IdentityState(node.document, identity)
        return Freshness(link, node.document, identity, self.state[node.name])

    def follow(self, here: str, site: str) -> None:
        """Let a request of one site arrive at another."""
        digest = self.state[site].digest()
        asyncio.run(self.fresh[here].follow(site, digest))


class Link:
    """The connection from one site to the others."""

    def __init__(self, world: World, here: str) -> None:
        self._world, self.here = world, here
        self.groups = Groups(here, world.owners)

    def reachable(self, _service: str = "") -> list[str]:
        return [name for name in self._world.fresh if name != self.here and name not in self._world.cut]

    async def send(self, site: str, call: Call, timeout_s: float, *, insist: bool = False) -> Reply:
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


def test_changes_of_a_site_arrive_before_its_request_is_handled(three):
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")
    assert marie not in {row[0] for row in lyon.sql("SELECT id FROM user")}
    world.follow("lyon", "paris")
    assert marie in {row[0] for row in lyon.sql("SELECT id FROM user")}
    assert world.asked == [("lyon", "paris")]


def test_changes_of_a_third_site_arrive_through_the_requesting_site(three):
    """Paris creates a user, lyon issues a token for it, and a client presents that at nice."""
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
    before = world.state["paris"].digest()
    assert len(world.asked) <= 1
    world.asked.clear()
    lyon.user("marie")
    for _ in range(3):
        world.follow("lyon", "paris")
    assert world.asked == [], "nothing may be fetched: this site has held that state before"
    paris.user("pierre")
    for _ in range(3):
        world.follow("lyon", "paris")
    assert world.asked == [("lyon", "paris")], "expected one fetch for each state of the document"
    asyncio.run(world.fresh["lyon"].follow("paris", before))
    assert world.asked == [("lyon", "paris")], "an older request must cause no second fetch"


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
    digest = world.state["paris"].digest()
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

    async def send(site: str, _call: Call, _timeout_s: float, *, insist: bool = False) -> Reply:
        tried.append(site)
        raise Unreachable(site, "no answer")

    vars(world.fresh["lyon"])["_sites"] = SimpleNamespace(here="lyon", groups=Groups("lyon", {}), send=send, reachable=list)
    for _ in range(3):
        world.follow("lyon", "paris")
    assert tried == ["paris"]
    monkeypatch.setattr("atoll.gateway.identity.freshness.AGAIN_S", 0.0)
    world.follow("lyon", "paris")
    assert tried == ["paris"] * 2


def test_an_owner_that_does_not_answer_holds_up_one_request_of_its_group_alone(three):
    """Otherwise each request of a site that shares its database would wait for it."""
    _paris, lyon, _nice = three
    world = World(*three)
    lyon.user("marie")
    tried, near = [], ["lyon"]

    async def send(site: str, _call: Call, _timeout_s: float, *, insist: bool = False) -> Reply:
        tried.append(site)
        raise Unreachable(site, "no answer")

    groups = Groups("nice", {"paris": "paris", "lyon": "paris"})
    vars(world.fresh["nice"])["_sites"] = SimpleNamespace(here="nice", groups=groups, send=send, reachable=lambda: near)
    for _ in range(3):
        world.follow("nice", "lyon")
    assert tried == ["paris"]
    asyncio.run(world.fresh["nice"].follow_token("lyon", "a token"))
    assert tried == ["paris"], "the mesh can't reach the owner"
    near.append("paris")
    asyncio.run(world.fresh["nice"].follow_token("lyon", "a token"))
    assert tried == ["paris"] * 2


def test_refused_entries_are_requested_again(three, monkeypatch):
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
    """A state vector of many sites is larger than the first piece of a body."""
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

    async def send(_site: str, _call: Call, _timeout_s: float, *, insist: bool = False) -> Reply:
        return Reply(200, CIMultiDict(), b"nonsense", "paris")

    vars(world.fresh["lyon"])["_sites"] = SimpleNamespace(here="lyon", groups=Groups("lyon", {}), send=send, reachable=lambda: ["paris"])
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
    assert not world.state["lyon"].holds(world.state["paris"].digest()), "the state must not count as held, so that the site is asked again"


def test_a_request_waits_for_entries_of_the_document_that_the_tables_lack(three):
    """The mesh may bring the entries to the document just before the request arrives."""
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")
    digest = world.state["paris"].digest()
    for part in paris.document.parts(lyon.document.state_vector()):
        lyon.document.merge_part(part)
    assert world.state["lyon"].digest() == digest
    assert marie not in {row[0] for row in lyon.sql("SELECT id FROM user")}
    asyncio.run(world.fresh["lyon"].follow("paris", digest))
    assert marie in {row[0] for row in lyon.sql("SELECT id FROM user")}
    assert world.asked == []


def test_a_state_that_the_tables_did_not_get_in_time_is_waited_for_again(three):
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")

    async def late() -> bool:
        return False

    world.fresh["lyon"]._identity, identity = SimpleNamespace(pull=lambda: None, applied=late), world.fresh["lyon"]._identity
    world.follow("lyon", "paris")
    assert not world.state["lyon"].holds(world.state["paris"].digest())
    world.fresh["lyon"]._identity = identity
    world.follow("lyon", "paris")
    assert marie in {row[0] for row in lyon.sql("SELECT id FROM user")}


def test_a_site_that_sent_a_request_is_asked_even_if_the_mesh_can_not_reach_it(three):
    """Only the mesh's own port may be blocked; the gateways reach each other."""
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")
    insisted = []
    send = world.fresh["lyon"]._sites.send

    async def noted(site: str, call: Call, timeout_s: float, *, insist: bool = False) -> Reply:
        insisted.append(insist)
        return await send(site, call, timeout_s)

    world.fresh["lyon"]._sites = SimpleNamespace(here="lyon", groups=Groups("lyon", {}), send=noted, reachable=list)
    world.follow("lyon", "paris")
    assert insisted == [True]
    assert marie in {row[0] for row in lyon.sql("SELECT id FROM user")}


def test_the_issuer_of_a_token_is_asked_again_after_a_failure(three, monkeypatch):
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")
    answers = world.fresh["lyon"]._sites

    async def no_answer(site: str, _call: Call, _timeout_s: float, *, insist: bool = False) -> Reply:
        world.asked.append(("lyon", site))
        raise Unreachable(site, "no answer")

    world.fresh["lyon"]._sites = SimpleNamespace(here="lyon", groups=Groups("lyon", {}), send=no_answer, reachable=lambda: ["paris"])
    for _ in range(2):
        asyncio.run(world.fresh["lyon"].follow_token("paris", "a token"))
    assert world.asked == [("lyon", "paris")], "a second attempt must wait some seconds"
    world.fresh["lyon"]._sites = answers
    monkeypatch.setattr("atoll.gateway.identity.freshness.time.monotonic", lambda: time.monotonic_ns() / 1e9 + 6)
    asyncio.run(world.fresh["lyon"].follow_token("paris", "a token"))
    assert marie in {row[0] for row in lyon.sql("SELECT id FROM user")}


def test_the_issuer_of_a_refused_token_is_asked_even_if_the_mesh_can_not_reach_it(three):
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")
    fresh, send = world.fresh["lyon"], world.fresh["lyon"]._sites.send
    insisted = []

    async def noted(site: str, call: Call, timeout_s: float, *, insist: bool = False) -> Reply:
        insisted.append(insist)
        return await send(site, call, timeout_s)

    fresh._sites = SimpleNamespace(here="lyon", groups=Groups("lyon", {}), send=noted, reachable=list)
    asyncio.run(fresh.follow_token("paris", "a token"))
    assert (insisted, fresh.holds("a token")) == ([], False)
    assert asyncio.run(fresh.insist("paris", "a token"))
    assert (insisted, fresh.holds("a token")) == ([True], True)
    assert marie in {row[0] for row in lyon.sql("SELECT id FROM user")}


def test_an_issuer_that_does_not_answer_is_not_asked_after_every_refusal(three):
    world = World(*three)
    world.cut.add("paris")
    fresh, send, tried = world.fresh["lyon"], world.fresh["lyon"]._sites.send, []

    async def noted(site: str, call: Call, timeout_s: float, *, insist: bool = False) -> Reply:
        tried.append(site)
        return await send(site, call, timeout_s)

    fresh._sites = SimpleNamespace(here="lyon", groups=Groups("lyon", {}), send=noted, reachable=list)
    assert [asyncio.run(fresh.insist("paris", f"token {number}")) for number in range(3)] == [False] * 3
    assert tried == ["paris"]


def test_an_issuer_whose_answer_is_of_no_use_is_not_asked_after_every_refusal(three):
    fresh, tried = World(*three).fresh["lyon"], []

    async def too_much(site: str, _call: Call, _timeout_s: float, *, insist: bool = False) -> Reply:
        tried.append(site)
        return Reply(413, CIMultiDict(), b"", site)

    fresh._sites = SimpleNamespace(here="lyon", groups=Groups("lyon", {}), send=too_much, reachable=list)
    assert [asyncio.run(fresh.insist("paris", f"token {number % 2}")) for number in range(4)] == [False] * 4
    assert tried == ["paris"]


def test_only_what_was_deleted_is_known_to_be_gone(three):
    paris, lyon, _nice = three
    world = World(*three)
    marie = paris.user("marie")
    assert not world.fresh["lyon"].is_deleted("user", marie), "nothing was heard of her yet"
    world.follow("lyon", "paris")
    assert not world.fresh["lyon"].is_deleted("user", marie)
    lyon.sql("DELETE FROM user WHERE id = ?", marie)
    Identity(lyon).pull()
    assert world.fresh["lyon"].is_deleted("user", marie)


def test_the_owner_of_a_shared_keystone_is_asked_for_what_another_of_its_sites_issued(three):
    paris, _lyon, nice = three
    world = World(*three, owners={"paris": "paris", "lyon": "paris"})
    marie = paris.user("marie")
    asyncio.run(world.fresh["nice"].follow_token("lyon", "a token of lyon"))
    assert world.asked == [("nice", "paris")]
    assert marie in {row[0] for row in nice.sql("SELECT id FROM user")}
    asyncio.run(world.fresh["paris"].follow_token("lyon", "a token of lyon"))
    assert world.asked == [("nice", "paris")], "the owner knows all that its own database has"
