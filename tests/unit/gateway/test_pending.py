import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from replica_sites import ADMIN, PROJECT, Sites, call

from atoll.gateway.answers import REPLICA_TAG, error_text, query_by_name
from atoll.gateway.copies import delivery, pending
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.pending_operation import PendingOperation, resource_of
from atoll.gateway.request.call import Reply
from atoll.gateway.request.requester import Requester

SERVER = "/v2.1/servers/1"
OWNER = Requester("user", PROJECT, ("member",))


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(pending, "INTERVAL_S", 0.02)
    monkeypatch.setattr(pending, "UNDELIVERED_S", 0.02)
    monkeypatch.setattr(delivery, "SETTLED_S", 0.1)


@asynccontextmanager
async def working(file: Path, sites: Sites, told: Conflicts | None = None) -> AsyncIterator[Pending]:
    """Run a worker until the end of the context."""
    worker = Pending(file, sites, lambda: 1_800_000_000.0, conflicts=told)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        worker.close()  # a task that has not begun closes nothing


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def looked(sites: Sites) -> None:
    """Wait until the worker has looked twice at what can be tried: everything that it began at first has been tried once."""
    looks, reachable = 0, sites.reachable

    def counted() -> list[str]:
        nonlocal looks
        looks += 1
        return reachable()

    sites.reachable = counted
    await until(lambda: looks > 2)


def put(site: str = "lyon", path: str = SERVER, **fields: object) -> PendingOperation:
    return PendingOperation.of(site, call("PUT", path, fields), "cut off", OWNER)


def delete(site: str = "lyon", path: str = SERVER, *, unsure: bool = False) -> PendingOperation:
    return PendingOperation.of(site, call("DELETE", path), "cut off", OWNER, unsure=unsure)


def test_pending_operations_are_carried_out_when_the_site_is_back(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            sites["lyon"].things[SERVER] = {}
            sites.cut.add("lyon")
            worker.add([put(name="new")])
            await looked(sites)
            assert sites["lyon"].asked == []
            assert worker.list() == [
                {"site": "lyon", "what": f"PUT compute{SERVER}", "since": "2027-01-15T08:00:00+00:00", "attempts": 0, "error": "cut off"}
            ]
            sites.cut.clear()
            worker.wake()
            await until(lambda: not worker.list())
            assert sites["lyon"].things[SERVER] == {"name": "new"}
            assert sites["lyon"].asked == [("GET", SERVER, ADMIN), ("PUT", SERVER, ADMIN)]

    asyncio.run(main())


def test_pending_operations_survive_a_restart(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites:
            sites["lyon"].things[SERVER] = {}
            sites.cut.add("lyon")
            async with working(tmp_path / "pending.db", sites) as worker:
                worker.add([put(name="new")])
            sites.cut.clear()
            async with working(tmp_path / "pending.db", sites) as worker:
                await until(lambda: not worker.list())
            assert sites["lyon"].things[SERVER] == {"name": "new"}

    asyncio.run(main())


def test_held_operations_are_carried_out_by_a_successor(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites:
            sites["lyon"].things = {SERVER: {}, "/v2.1/servers/2": {}, "/v2.1/servers/3": {}}
            async with working(tmp_path / "pending.db", sites) as worker:
                held = worker.hold([delete(), delete(path="/v2.1/servers/2"), delete(path="/v2.1/servers/3")])
                worker.drop(held[2:])
                worker.release({held[1]: "could not be asked"})
                await until(lambda: not worker.list())
                await looked(sites)
                assert set(sites["lyon"].things) == {SERVER, "/v2.1/servers/3"}
            async with working(tmp_path / "pending.db", sites) as worker:
                await until(lambda: SERVER not in sites["lyon"].things)
            assert set(sites["lyon"].things) == {"/v2.1/servers/3"}

    asyncio.run(main())


def test_a_request_that_may_still_be_under_way_is_not_overtaken(tmp_path, monkeypatch):
    monkeypatch.setattr(pending, "UNDELIVERED_S", 0.3)

    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            sites["lyon"].things[SERVER] = {}
            loop = asyncio.get_running_loop()
            begin = loop.time()
            worker.release({worker.hold([put(name="new")])[0]: "it has stopped answering"})
            await until(lambda: not worker.list())
            assert loop.time() - begin >= 0.3

    asyncio.run(main())


def test_its_file_is_for_its_owner_alone_and_holds_no_token(tmp_path):
    with contextlib.closing(Pending(tmp_path / "pending.db", Sites("paris", "lyon"), lambda: 0.0)) as worker:
        worker.add([put(name="new")])
        for file in tmp_path.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file.name
            assert b"token" not in file.read_bytes()


def test_order_is_kept_for_each_resource(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            lyon = sites["lyon"]
            lyon.things = {SERVER: {}, "/v2.1/servers/2": {}}
            lyon.refuse["PUT", "/servers/1$"] = 500
            worker.add([put(name="first"), put(name="second"), put(path="/v2.1/servers/2", name="other")])
            await until(lambda: lyon.things["/v2.1/servers/2"])
            await until(lambda: not worker.waits("lyon", call("GET", "/v2.1/servers/2")))  # its answer has come too
            assert worker.waits("lyon", call("GET", SERVER + "/metadata"))
            assert not worker.waits("paris", call("GET", SERVER))
            assert lyon.things[SERVER] == {}
            lyon.refuse.clear()
            await until(lambda: not worker.list())
            assert lyon.things[SERVER] == {"name": "second"}

    asyncio.run(main())


def test_a_deletion_makes_what_waited_before_it_pointless(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            sites.cut.add("lyon")
            worker.add([put(name="new"), put(path=SERVER + "/metadata", a=1), put(path="/v2.1/servers/2"), delete()])
            assert [each["what"] for each in worker.list()] == ["PUT compute/v2.1/servers/2", f"DELETE compute{SERVER}"]

    asyncio.run(main())


def test_an_operation_on_a_missing_object_is_done(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            worker.add([delete(), put(path="/v2.1/servers/2", name="new")])
            await until(lambda: not worker.list())

    asyncio.run(main())


def test_a_change_that_is_refused_is_given_up_at_last_and_a_deletion_is_not(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(pending, "LONGEST_DELAY_S", 0.01)

    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            sites["lyon"].things = {SERVER: {}, "/v2.1/servers/2": {}}
            sites["lyon"].refuse = {("PUT", "."): 409, ("DELETE", "."): 409}
            worker.add([put(name="new"), delete(path="/v2.1/servers/2")])
            await until(lambda: [each["attempts"] > pending.MOST_REFUSALS for each in worker.list()] == [True])
            assert worker.list()[0]["what"] == "DELETE compute/v2.1/servers/2"
            assert worker.list()[0]["error"] == "HTTP 409: refused by lyon"

    asyncio.run(main())
    assert f"lyon refuses for good, and differs from the other sites now: PUT compute{SERVER}" in caplog.text


def test_a_late_creation_is_deleted_when_it_appears(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            worker.add([delete(unsure=True)])
            await until(lambda: worker.list()[0]["error"] == "the resource does not exist, and may still be created")
            sites["lyon"].things[SERVER] = {}
            await until(lambda: not worker.list())
            assert not sites["lyon"].things

    asyncio.run(main())


def test_the_undo_of_a_creation_that_never_appears_is_done(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            worker.add([delete(unsure=True)])
            await until(lambda: not worker.list())

    asyncio.run(main())


def test_servers_are_found_by_their_tag(tmp_path):
    async def main() -> None:
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites) as worker:
            for number, tag in (("1", "ours"), ("2", "another's"), ("3", None)):
                sites["lyon"].things[f"/v2.1/servers/{number}"] = {"id": number, "metadata": {REPLICA_TAG: tag} if tag else {}}
            listed = call("DELETE", "/v2.1/servers", query=query_by_name("web.1"))
            worker.add([replace(PendingOperation.of("lyon", listed, "lost", OWNER, unsure=True), tag="ours")])
            await until(lambda: not worker.list())
            assert sorted(sites["lyon"].things) == ["/v2.1/servers/2", "/v2.1/servers/3"]

    asyncio.run(main())


def test_the_name_that_servers_are_found_by_is_not_a_pattern():
    assert query_by_name("web.1") == "all_tenants=1&name=%5Eweb%5C.1%24"


def test_an_operation_that_does_not_fit_is_given_up_and_reported(tmp_path, caplog):
    """A user deletes an image of its own; another project's image has the id at a site that was cut off."""
    image = "/v2/images/i"

    async def main() -> None:
        told = Conflicts()
        async with Sites("paris", "lyon").running() as sites, working(tmp_path / "pending.db", sites, told) as worker:
            sites["lyon"].things[image] = {"id": "i", "owner": "victim"}
            later = PendingOperation.of("lyon", call("DELETE", image, service="image"), "cut off", OWNER)
            sites["lyon"].things["/v2/images/j"] = {"id": "j", "owner": PROJECT}
            worker.add([later, replace(later, path="/v2/images/j", requester=None)])
            await until(lambda: not worker.list())
            assert set(sites["lyon"].things) == {image, "/v2/images/j"}
            assert {method for method, _, _ in sites["lyon"].asked} == {"GET"}
            (conflict,) = [each for each in told.list() if each["id"] == "i"]
            assert (conflict["kind"], conflict["id"], conflict["sites"]) == ("pending image DELETE", "i", ["lyon", "paris"])

    asyncio.run(main())
    assert "lyon refuses for good: DELETE image/v2/images/i (the object at lyon is not of project project" in caplog.text
    assert "lyon refuses for good: DELETE image/v2/images/j (its requester is unknown)" in caplog.text


def test_a_file_of_an_earlier_version_does_not_say_who_asked(tmp_path):
    old = sqlite3.connect(tmp_path / "pending.db")
    old.executescript(
        "CREATE TABLE operation (number INTEGER PRIMARY KEY AUTOINCREMENT, since REAL NOT NULL, attempts INTEGER NOT NULL,"
        " error TEXT NOT NULL, site TEXT NOT NULL, method TEXT NOT NULL, service TEXT NOT NULL, path TEXT NOT NULL, query TEXT NOT NULL,"
        " headers TEXT NOT NULL, body BLOB, request_id TEXT NOT NULL, unsure INTEGER NOT NULL, tag TEXT NOT NULL, about TEXT NOT NULL,"
        " copies_data INTEGER NOT NULL, resource TEXT NOT NULL);"
        "INSERT INTO operation VALUES (1, 0, 0, 'e', 'lyon', 'DELETE', 'image', '/v2/images/i', '', '{}', NULL, 'r', 0, '', '', 0, 'r')"
    )
    old.close()
    with contextlib.closing(Pending(tmp_path / "pending.db", Sites("paris", "lyon"), lambda: 0.0)) as worker:
        (waits,) = worker._store.all()
        assert (waits.requester, waits.identity) == (None, {})
        worker.add([delete()])
        assert worker._store.all()[1].requester == OWNER


def test_a_site_that_left_is_waited_for_no_more(tmp_path):
    with contextlib.closing(Pending(tmp_path / "pending.db", Sites("paris", "lyon", "nice"), lambda: 0.0)) as worker:
        worker.add([delete("lyon"), delete("nice")])
        worker.forget("lyon")
        assert [each["site"] for each in worker.list()] == ["nice"]


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/v2.1/servers/1", "/v2.1/servers/1"),
        ("/v2.1/servers/1/action", "/v2.1/servers/1"),
        (f"/v2.1/{'0' * 32}/servers/1/action", f"/v2.1/{'0' * 32}/servers/1"),
        (f"/v2.1/os-quota-sets/{'0' * 32}", f"/v2.1/os-quota-sets/{'0' * 32}"),
        ("/v2.0/routers/1/add_router_interface", "/v2.0/routers/1"),
        ("/v2.1/servers", "/v2.1/servers"),
    ],
)
def test_resource_of(path, resource):
    assert resource_of(path) == resource


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"badRequest": {"code": 400, "message": "no\\nsuch"}}', "no such"),
        (b'{"NeutronError": "text"}', "text"),
        (b"<html>", "<html>"),
        (b"{}", "{}"),
        (b"[]", "[]"),
    ],
)
def test_words(body, said):
    assert error_text(Reply(400, call("GET", "/").headers, body, "lyon")) == said


def test_a_body_that_can_be_read_once_can_not_wait():
    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(ValueError, match="not in memory"):
        PendingOperation.of("lyon", call("PUT", "/v2/images/1/file", pieces()), "cut off")
