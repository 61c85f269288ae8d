"""The order, repetition and grouping of updates never change the outcome."""

from __future__ import annotations

from documents import Site
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from atoll.mesh.document import Behind
from atoll.mesh.parts import pack_parts, unpack_parts

NAMES = ["lyon", "nice", "paris"]
SITES = st.sampled_from(NAMES)
KEYS = st.sampled_from("12")
FIELDS = st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), min_size=1)
Written = tuple[int, str, object]


class Merging(RuleBasedStateMachine):
    """Three sites that write, and a network that reorders, repeats and drops updates. The model is a table of maxima."""

    updates = Bundle("updates")

    def __init__(self) -> None:
        super().__init__()
        self.sites = {name: Site(name) for name in NAMES}
        self.model: dict[tuple[str, str], Written] = {}

    @rule(
        target=updates, name=SITES, key=st.sampled_from("12"), fields=st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), min_size=1)
    )
    def write(self, name: str, key: str, fields: dict[str, int]) -> object:
        site = self.sites[name]
        update = site.write(key, **fields)
        stamp = unpack_parts(update)[0].head.stamp
        for field, value in fields.items():
            self.model[key, field] = max(self.model.get((key, field), (0, "", None)), (stamp, name, value))
        return update

    @rule(target=updates, giver=SITES, reader=SITES)
    def relay(self, giver: str, reader: str) -> object:
        """Return the parts that one site lacks of another's, a group of updates."""
        return self.sites[giver].document.difference(self.sites[reader].document.state_vector())

    @rule(target=updates, one=updates, other=updates)
    def group(self, one: bytes, other: bytes) -> object:
        return pack_parts([*unpack_parts(one), *unpack_parts(other)])

    @rule(target=updates, update=consumes(updates))
    def split(self, update: bytes) -> object:
        return multiple(*[pack_parts([part]) for part in unpack_parts(update)])

    @rule(name=SITES, update=updates)
    def deliver(self, name: str, update: bytes) -> None:
        before = self.sites[name].view()
        try:
            self.sites[name].document.merge(update)
        except Behind:
            return
        view = self.sites[name].view()
        self.sites[name].document.merge(update)
        assert self.sites[name].view() == view
        for record, (_, stamps, _) in before.items():
            assert all(view[record][1][field] >= stamp for field, stamp in stamps.items())

    @rule(name=SITES, hours=st.integers(-1, 1))
    def skew(self, name: str, hours: int) -> None:
        self.sites[name].clock.ms += hours * 3_600_000

    @rule(name=SITES)
    def restart(self, name: str) -> None:
        view = self.sites[name].view()
        self.sites[name].restart()
        assert self.sites[name].view() == view

    @invariant()
    def equal_digests_mean_equal_records(self) -> None:
        views = {site.document.digest(): site.view() for site in self.sites.values()}
        assert all(site.view() == views[site.document.digest()] for site in self.sites.values())

    def teardown(self) -> None:
        for reader in [*self.sites.values()] * 2:
            for giver in self.sites.values():
                reader.catch_up(giver)
        assert len({site.document.digest() for site in self.sites.values()}) == 1
        for site in self.sites.values():
            for (key, field), (stamp, author, value) in self.model.items():
                record = site.document.record("thing", key)
                assert record is not None
                assert (record.stamps[field], record.authors[field], record.fields[field]) == (stamp, author, value)
            site.store.close()


Merging.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestMerging = Merging.TestCase
