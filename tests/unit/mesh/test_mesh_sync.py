"""Documents over a network that delays and loses messages, and is cut: the time is a number, the network a list."""

from __future__ import annotations

import heapq
import itertools
import random

import msgpack
import pytest
from documents import Site, certificate_of
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.mesh import document as document_module
from atoll.mesh.document import Change, Refused
from atoll.mesh.parts import Part, unpack_parts
from atoll.mesh.sync import ANSWER_S, MAX_ANSWER_BYTES, MAX_MESSAGE_BYTES, MAX_PAUSE_S, DocumentSync

PERIOD_S = 3.0


class Cloud:
    """Sites that ping one another in turn, as SWIM does."""

    def __init__(self, names: str, *, seed: int = 0, latency_s: float = 0.05, loss: float = 0.0) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.latency_s = latency_s
        self.loss = loss
        self.cut: set[frozenset[str]] = set()
        self.sites = {name: Site(name) for name in names}
        self.exchanges: dict[str, DocumentSync] = {}
        self.queue: list[tuple[float, int, str, str, str, bytes]] = []
        self.numbers = itertools.count()
        self.sent: list[tuple[float, str, str, str, int]] = []
        self.refused: list[tuple[str, str]] = []
        for number, name in enumerate(self.sites):
            self.begin(name)
            heapq.heappush(self.queue, (number * PERIOD_S / len(self.sites), next(self.numbers), name, name, "timer", b""))

    def begin(self, name: str) -> None:
        """Start a process of a site."""
        site = self.sites[name]
        exchange = self.exchanges[name] = DocumentSync(site.document, lambda: self.now)

        def live(part: Part) -> None:
            for message in exchange.live(part):
                for other in self.sites:
                    if other != name:
                        self.send(name, other, "message", message)

        site.document.on_update(live)

    def send(self, sender: str, reader: str, kind: str, data: bytes) -> None:
        self.sent.append((self.now, sender, reader, kind, len(data)))
        if frozenset((sender, reader)) not in self.cut and self.random.random() >= self.loss:
            heapq.heappush(self.queue, (self.now + self.latency_s, next(self.numbers), sender, reader, kind, data))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.queue and self.queue[0][0] <= end:
            self.now, _, sender, reader, kind, data = heapq.heappop(self.queue)
            if kind == "timer":
                others = [name for name in self.sites if name != sender]
                self.send(sender, self.random.choice(others), "ping", self.exchanges[sender].hello())
                heapq.heappush(self.queue, (self.now + PERIOD_S, next(self.numbers), sender, sender, "timer", b""))
                continue
            exchange = self.exchanges[reader]
            if kind == "ping":
                self.send(reader, sender, "ack", exchange.hello())
            try:
                out = exchange.on_message(sender, data) if kind == "message" else exchange.on_hello(sender, data)
            except Refused as refusal:
                self.refused.append((reader, refusal.reason))
                continue
            for to, message in out:
                self.send(reader, to, "message", message)
        self.now = end

    def cut_off(self, *names: str) -> None:
        self.cut |= {frozenset((name, other)) for name in names for other in self.sites if other not in names}

    def heal(self) -> None:
        self.cut.clear()

    def equal(self) -> bool:
        return len({site.document.digest() for site in self.sites.values()}) == 1

    def until_equal(self, limit_s: float) -> float:
        """Run until all documents are equal; return the seconds that took."""
        begun = self.now
        while not self.equal():
            assert self.now < begun + limit_s, "the documents do not become equal"
            self.run(0.1)
        return self.now - begun

    def until_equal_of(self, names: str, limit_s: float) -> None:
        end = self.now + limit_s
        while len({self.sites[name].document.digest() for name in names}) > 1:
            assert self.now < end
            self.run(0.1)

    def messages(self, since: float = 0.0) -> list[tuple[float, str, str, str, int]]:
        return [sent for sent in self.sent if sent[3] == "message" and sent[0] >= since]


def test_a_live_update_is_everywhere_after_one_way() -> None:
    cloud = Cloud("abcd")
    cloud.sites["a"].write("1", present=True)
    cloud.run(cloud.latency_s)
    assert cloud.equal()
    assert len(cloud.messages()) == 3


def test_equal_documents_say_nothing_but_hellos_of_8_bytes() -> None:
    cloud = Cloud("abc")
    cloud.sites["a"].write("1", present=True)
    cloud.run(1)
    since = cloud.now
    cloud.run(100)
    assert cloud.messages(since) == []
    assert {size for *_, kind, size in cloud.sent if kind == "ping"} == {8}


def test_two_sites_apart_agree_after_one_exchange() -> None:
    cloud = Cloud("ab")
    cloud.cut_off("a")
    for name in "ab":
        for number in range(20):
            cloud.sites[name].write(f"{name}{number}", present=True)
    cloud.run(1)
    assert not cloud.equal()
    cloud.heal()
    since = cloud.now
    assert cloud.until_equal(10) <= PERIOD_S + 4 * cloud.latency_s
    cloud.run(60)
    # Two messages `have`, then a part and `done` in each direction: no message is sent twice.
    assert len(cloud.messages(since)) == 6


def test_both_ask_at_the_same_time_and_nothing_is_sent_twice() -> None:
    a, b = Site("a"), Site("b")
    a.write("1", present=True)
    b.write("2", present=True)
    one, other = DocumentSync(a.document, lambda: 0.0), DocumentSync(b.document, lambda: 0.0)
    to_b = one.on_hello("b", other.hello())
    to_a = other.on_hello("a", one.hello())
    parts = 0
    while to_a or to_b:
        parts += sum(msgpack.unpackb(data)[0] == 2 for _, data in to_a + to_b)
        answers_a = [message for _, data in to_a for message in one.on_message("b", data)]
        answers_b = [message for _, data in to_b for message in other.on_message("a", data)]
        to_b, to_a = answers_a, answers_b
    assert a.view() == b.view()
    assert parts == 2


def test_halves_of_ten_sites_agree_in_seconds() -> None:
    """Entries from the other half are passed on at once; if each site waited for its own turn, it would take 4 s on average."""
    took = []
    for seed in range(4):
        cloud = Cloud("abcdefghij", seed=seed)
        cloud.cut_off(*"abcde")
        for name in cloud.sites:
            cloud.sites[name].write(name, present=True)
        cloud.run(10 + seed)
        cloud.heal()
        since = cloud.now
        took.append(cloud.until_equal(10))
        cloud.run(30)
        assert len(cloud.messages(since)) < 300
    assert sum(took) / len(took) < 2.5


def test_a_lost_update_is_noticed_by_the_next_and_made_good() -> None:
    cloud = Cloud("ab")
    cloud.cut_off("a")
    cloud.sites["a"].write("1", present=True)
    cloud.heal()
    cloud.sites["a"].write("2", present=True)
    cloud.run(4 * cloud.latency_s)
    assert cloud.equal()


@pytest.mark.parametrize("seed", range(3))
def test_with_a_third_of_all_messages_lost_all_become_equal(seed: int) -> None:
    cloud = Cloud("abcde", seed=seed, loss=0.3)
    for number in range(10):
        for name in cloud.sites:
            cloud.sites[name].write(f"{number % 3}", present=True, by=name)
        cloud.run(1)
    cloud.until_equal(60)


def test_large_update_comes_in_pieces() -> None:
    cloud = Cloud("ab")
    cloud.cut_off("a")
    for number in range(12):
        cloud.sites["a"].write(str(number), present=True, text="x" * 100_000)
    cloud.heal()
    cloud.until_equal(10)
    assert max(size for *_, size in cloud.messages()) <= MAX_MESSAGE_BYTES
    assert cloud.sites["a"].view() == cloud.sites["b"].view()


def test_a_large_update_is_told_in_pieces_as_well() -> None:
    cloud = Cloud("ab")
    cloud.sites["a"].document.write([Change("thing", str(number), {"text": "x" * 100_000}) for number in range(12)])
    cloud.run(cloud.latency_s)
    assert cloud.equal()
    assert max(size for *_, size in cloud.messages()) <= MAX_MESSAGE_BYTES


LARGE = 100
"""The number of records of 100 KB: more than fits an answer."""


def write_large(site: Site) -> None:
    for start in range(0, LARGE, 10):
        site.document.write([Change("thing", str(start + number), {"text": f"{start}" * 50_000}) for number in range(10)])


def test_a_joining_site_gets_a_large_document_in_bounded_pieces() -> None:
    """The document has two authors, one of which is away."""
    cloud = Cloud("abc")
    cloud.cut_off("c")
    for name in "ab":
        write_large(cloud.sites[name])
    cloud.until_equal_of("ab", 60)
    cloud.cut = {frozenset("bc")}
    since = cloud.now
    cloud.until_equal(60)
    messages = cloud.messages(since)
    assert max(size for *_, size in messages) <= MAX_MESSAGE_BYTES
    by_moment: dict[float, int] = {}
    for moment, sender, reader, _, size in messages:
        if (sender, reader) == ("a", "c"):
            by_moment[moment] = by_moment.get(moment, 0) + size
    assert sum(by_moment.values()) > 15_000_000
    assert max(by_moment.values()) <= MAX_ANSWER_BYTES + MAX_MESSAGE_BYTES
    assert sum(by_moment.values()) < 25_000_000, "no part may be transferred twice"


@pytest.mark.parametrize("seed", range(2))
def test_pages_that_are_lost_are_asked_for_again(seed: int) -> None:
    cloud = Cloud("ab", seed=seed, loss=0.05)
    cloud.cut_off("a")
    write_large(cloud.sites["a"])
    cloud.heal()
    cloud.until_equal(600)
    assert sum(size for *_, size in cloud.messages()) < 40_000_000


def test_a_part_that_changes_while_it_is_fetched_is_fetched_as_it_is_then() -> None:
    cloud = Cloud("ab")
    cloud.cut_off("a")
    write_large(cloud.sites["a"])
    cloud.heal()
    for number in range(20):
        cloud.run(0.3)
        cloud.sites["a"].write(f"more {number}", present=True)
    cloud.until_equal(60)


def test_a_large_update_is_not_told_but_fetched() -> None:
    cloud = Cloud("ab")
    cloud.sites["a"].document.write([Change("thing", str(number), {"text": "x" * 200_000}) for number in range(40)])
    assert sum(size for *_, size in cloud.messages()) < 100
    cloud.until_equal(10)


def test_a_site_with_a_large_stream_that_lost_its_disk_is_shown_it_by_pages() -> None:
    cloud = Cloud("ab")
    write_large(cloud.sites["a"])
    cloud.until_equal(60)
    cloud.sites["a"].lose_disk()
    cloud.begin("a")
    cloud.sites["a"].write("since", present=True)
    cloud.until_equal(120)
    assert len(cloud.sites["a"].view()) == LARGE + 1


def test_a_new_generation_of_a_large_stream_reaches_all() -> None:
    cloud = Cloud("abc")
    write_large(cloud.sites["a"])
    cloud.until_equal(60)
    site = cloud.sites["a"]
    site.document._renew(site.document._streams["a"], {f"thing/{number}" for number in range(10)})
    cloud.until_equal(60)
    assert len([key for kind, key in cloud.sites["c"].view() if kind == "thing"]) == LARGE - 10


def test_a_site_that_lost_its_disk_has_back_what_it_wrote_and_loses_nothing_that_it_wrote_since() -> None:
    cloud = Cloud("abc")
    for number in range(5):
        cloud.sites["a"].write(f"old {number}", present=True, name="old")
    cloud.run(5)
    cloud.cut_off("a")
    cloud.sites["a"].lose_disk()
    cloud.begin("a")
    cloud.sites["a"].write("old 0", name="new")
    cloud.sites["a"].write("since", present=True)
    cloud.run(1)
    cloud.heal()
    cloud.until_equal(30)
    for site in cloud.sites.values():
        records = {record.key: record.fields["name"] for record in site.document.records("thing") if "name" in record.fields}
        assert records == {"old 0": "new"} | {f"old {number}": "old" for number in range(1, 5)}
        assert site.document.record("thing", "since")
    since = cloud.now
    cloud.run(100)
    assert cloud.messages(since) == []


def test_a_site_that_lost_its_disk_is_set_right_by_way_of_another() -> None:
    """b never meets a, but has more of a's entries than c has."""
    cloud = Cloud("abc")
    cloud.sites["a"].write("1", present=True)
    cloud.run(1)
    cloud.cut = {frozenset("ac")}
    cloud.sites["a"].write("2", present=True)
    cloud.run(0.1)
    cloud.cut = {frozenset("ab"), frozenset("bc")}
    cloud.sites["a"].lose_disk()
    cloud.begin("a")
    cloud.sites["a"].write("3", present=True)
    cloud.run(20)
    cloud.cut = {frozenset("ab")}
    cloud.until_equal(120)
    assert {record.key for record in cloud.sites["c"].document.records("thing")} == {"1", "2", "3"}


@pytest.mark.parametrize(("since_backup", "after_restore"), [(3, 1), (1, 3), (2, 2), (2, 0)])
def test_a_site_that_was_restored_from_an_old_backup(since_backup: int, after_restore: int) -> None:
    cloud = Cloud("abc")
    site = cloud.sites["a"]
    site.write("1", present=True)
    backup = site.path.read_bytes(), site.path.with_name("document.db-wal").read_bytes()
    for number in range(since_backup):
        site.write(f"since {number}", present=True)
    cloud.run(5)
    cloud.cut_off("a")
    site.lose_disk()
    site.store.close()
    site.path.write_bytes(backup[0])
    site.path.with_name("document.db-wal").write_bytes(backup[1])
    site.open()
    cloud.begin("a")
    assert {key for _, key in site.view()} == {"1"}
    for number in range(after_restore):
        site.write(f"after {number}", present=True)
    cloud.run(1)
    cloud.heal()
    cloud.until_equal(60)
    expected = {"1"} | {f"since {number}" for number in range(since_backup)} | {f"after {number}" for number in range(after_restore)}
    assert {record.key for record in cloud.sites["c"].document.records("thing")} == expected


def test_an_author_becomes_known_by_what_comes_with_its_entries() -> None:
    """b refuses a's entries until the admission of a arrives: from c, in the same exchange."""
    cloud = Cloud("abc")
    b = cloud.sites["b"]
    cloud.cut_off("b")
    cloud.sites["c"].write("a", kind="admission", present=True)
    cloud.sites["a"].write("1", present=True)
    cloud.run(5)

    def certificate(name: str) -> object:
        return certificate_of(name) if name != "a" or b.document.record("admission", "a") else None

    vars(b.document)["_certificate"] = certificate
    cloud.heal()
    cloud.until_equal(10)


def test_refused_part_is_requested_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud("ab")
    monkeypatch.setattr(document_module, "verify", lambda *_: False)
    cloud.sites["a"].write("1", present=True)
    cloud.run(600)
    assert not cloud.equal()
    assert {reader for reader, _ in cloud.refused} == {"b"}
    last = [sent for sent in cloud.messages(300) if sent[1] == "b"]
    assert 3 <= len(last) <= 2 * 300 / MAX_PAUSE_S


def test_silent_site_does_not_hold_up_the_others() -> None:
    now = 0.0
    a = Site("a")
    a.write("1", present=True)
    exchange = DocumentSync(a.document, lambda: now)
    assert [to for to, _ in exchange.on_hello("b", b"x" * 8)] == ["b"]
    assert exchange.on_hello("c", b"y" * 8) == []
    now += ANSWER_S
    assert [to for to, _ in exchange.on_hello("c", b"y" * 8)] == ["c"]


HOSTILE = [
    b"",
    b"\xc1",
    b"x" * 1000,
    msgpack.packb(1),
    msgpack.packb([]),
    msgpack.packb([9]),
    msgpack.packb(["1", b""]),
    msgpack.packb([1, b"", 1]),
    msgpack.packb([1, b"", True]),
    msgpack.packb([2, "text"]),
    msgpack.packb([2, b""]),
    msgpack.packb([3, 1, 0, 10**6, b""]),
    msgpack.packb([3, 1, 5, 5, b""]),
    msgpack.packb([3, 1, 0, 1, b"x" * (MAX_MESSAGE_BYTES + 1)]),
    msgpack.packb([3, 1, 0, 1, msgpack.packb([3, 1, 0, 1, msgpack.packb([4])])]),
    msgpack.packb([6, "a", 0]),
    msgpack.packb([6, "a", 0, b"x", "1"]),
    msgpack.packb([7, 1]),
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_messages_are_refused(data: bytes) -> None:
    a = Site("a")
    a.write("1", present=True)
    before = a.document.digest(), a.view()
    with pytest.raises(Refused):
        DocumentSync(a.document).on_message("b", data)
    assert (a.document.digest(), a.view()) == before


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=100),
            st.lists(st.one_of(st.integers(-1, 8), st.binary(), st.booleans(), st.sampled_from("ab"))).map(msgpack.packb),
        )
    )
)
def test_any_bytes_are_answered_or_refused(messages: list[bytes]) -> None:
    for data in messages:
        try:
            answers = TARGET.on_message("b", data)
        except Refused:
            continue
        assert all(to == "b" for to, _ in answers)


def test_pieces_that_are_lost_or_mixed_make_no_message() -> None:
    a, b = Site("a"), Site("b")
    a.document.write([Change("thing", str(number), {"text": "x" * 100_000}) for number in range(12)])
    (part,) = unpack_parts(a.updates[0])
    pieces = DocumentSync(a.document).live(part)
    assert len(pieces) > 2
    exchange = DocumentSync(b.document)
    for order in (pieces[1:], [pieces[0], *pieces[2:]], pieces[::-1]):
        for piece in order:
            assert exchange.on_message("a", piece) == []
        assert b.view() == {}
    for piece in pieces:
        exchange.on_message("a", piece)
    assert b.view() == a.view()


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32), events=st.lists(st.sampled_from(["write", "cut", "heal", "restart", "lose", "skew", "wait"]), max_size=30)
)
def test_all_documents_become_equal_and_nothing_is_lost(seed: int, events: list[str]) -> None:
    cloud = Cloud("abcd", seed=seed, loss=0.1)
    chance = random.Random(seed)
    written: set[str] = set()
    for number, event in enumerate(events):
        name = chance.choice("abcd")
        site = cloud.sites[name]
        match event:
            case "write":
                key = str(number)
                site.write(key, present=True, shared=number)
                written.add(key)
            case "cut":
                cloud.cut_off(name)
            case "heal":
                cloud.heal()
            case "restart":
                site.restart()
                cloud.begin(name)
            case "lose":  # of a disk, after all of its content was replicated
                cloud.heal()
                cloud.until_equal(300)
                site.lose_disk()
                cloud.begin(name)
            case "skew":
                site.clock.ms += chance.choice([-1, 1]) * 3_600_000
            case _:
                cloud.run(chance.random() * 5)
    cloud.heal()
    cloud.until_equal(300)
    views = [site.view() for site in cloud.sites.values()]
    assert all(view == views[0] for view in views)
    assert {key for _, key in views[0]} == written
    assert not cloud.refused
    for site in cloud.sites.values():
        site.store.close()


TARGET = DocumentSync(Site("a").document, lambda: 0.0)
