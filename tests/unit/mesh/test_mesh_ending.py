"""Records are deleted, left out and created again at sites that are cut off: in the end all agree on the last write of each record."""

from __future__ import annotations

from typing import Any
from unittest import mock

from documents import Clock, Site
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from atoll.mesh import tombstones
from atoll.mesh.document import Behind, Contradiction
from atoll.mesh.parts import unpack_parts

NAMES = ["lyon", "nice", "paris"]
SITES = st.sampled_from(NAMES)
KEYS = st.sampled_from("123")


class Ending(RuleBasedStateMachine):
    """Three sites with one clock, and a network that reorders, repeats and drops updates.

    The model is the last write of each record: whether it is present, and its field.
    """

    updates = Bundle("updates")

    def __init__(self) -> None:
        super().__init__()
        self.patches: list[Any] = [
            mock.patch.object(tombstones, "MIN_WASTE", 0),
            mock.patch.object(tombstones, "is_worthwhile", lambda waste, _weight: waste > 0),
        ]
        for patch in self.patches:
            patch.start()
        self.clock = Clock()
        self.sites = {name: Site(name, clock=self.clock) for name in NAMES}
        self.model: dict[str, tuple[int, str, int | None]] = {}
        self.acknowledged = {name: dict.fromkeys(NAMES, 0) for name in NAMES}

    def note(self, name: str, key: str, update: bytes, value: int | None) -> bytes:
        word = (unpack_parts(update)[-1].head.stamp, name, value)
        self.model[key] = max(self.model.get(key, word), word, key=lambda each: each[:2])
        return update

    @rule(target=updates, name=SITES, key=KEYS, value=st.integers(0, 9))
    def make(self, name: str, key: str, value: int) -> object:
        return self.note(name, key, self.sites[name].write(key, present=True, value=value), value)

    @rule(target=updates, name=SITES, key=KEYS)
    def delete(self, name: str, key: str) -> object:
        return self.note(name, key, self.sites[name].write(key, present=False), None)

    @rule(target=updates, giver=SITES, reader=SITES)
    def relay(self, giver: str, reader: str) -> object:
        return self.sites[giver].document.difference(self.sites[reader].document.state_vector())

    @rule(name=SITES, update=updates)
    def deliver(self, name: str, update: bytes) -> None:
        try:
            self.sites[name].document.merge(update)
        except Behind:
            return

    @rule(one=SITES, other=SITES)
    def meet(self, one: str, other: str) -> None:
        self.catch_up(one, other)
        self.catch_up(other, one)

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        self.clock.ms += hours * 3_600_000

    @rule(name=SITES)
    def ping(self, name: str) -> None:
        for other in NAMES:
            if self.sites[other].document.digest() == self.sites[name].document.digest():
                self.acknowledged[name][other] = self.sites[name].document.written

    @rule(name=SITES)
    def tidy(self, name: str) -> None:
        self.clock.ms += 1
        self.sites[name].document.tidy(min(self.acknowledged[name].values()))

    @rule(name=SITES)
    def restart(self, name: str) -> None:
        view = self.sites[name].view()
        self.sites[name].restart()
        assert self.sites[name].view() == view

    def catch_up(self, reader: str, giver: str) -> None:
        try:
            self.sites[reader].catch_up(self.sites[giver])
        except Contradiction as error:
            raise AssertionError("nobody has lost its memory") from error
        except Behind as refusal:
            there, here = self.sites[giver].document, self.sites[reader].document
            here.merge(there.difference(here.state_without([refusal.author])))

    @invariant()
    def equal_digests_mean_equal_records(self) -> None:
        views = {site.document.digest(): site.view() for site in self.sites.values()}
        assert all(site.view() == views[site.document.digest()] for site in self.sites.values())

    def settle(self) -> None:
        for _ in range(8):
            for reader in NAMES * 2:
                for giver in NAMES:
                    self.catch_up(reader, giver)
            for name in NAMES:
                self.ping(name)
            self.clock.ms += 25 * 3_600_000
            for name in NAMES:
                self.tidy(name)
        for reader in NAMES * 2:
            for giver in NAMES:
                self.catch_up(reader, giver)

    def check(self, site: Site) -> None:
        there = {record.key: record.fields["value"] for record in site.document.records("thing")}
        assert there == {key: value for key, (_, _, value) in self.model.items() if value is not None}
        left = {name for author in NAMES for name in site.document.stream_set.entries(author) if "thing" in name}
        assert left == {f"thing/{key}" for key in there}, "no site may keep an entry of a deleted record"

    def teardown(self) -> None:
        try:
            self.settle()
            assert len({site.document.digest() for site in self.sites.values()}) == 1
            for site in self.sites.values():
                self.check(site)
        finally:
            for patch in self.patches:
                patch.stop()
            for site in self.sites.values():
                site.store.close()


Ending.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEnding = Ending.TestCase
