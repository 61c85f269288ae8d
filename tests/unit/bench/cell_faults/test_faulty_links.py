"""Links under several faults: what one fault undoes leaves the effects of the others."""

from typing import Any

from atoll.bench.cell_faults.links import FaultyLinks
from atoll.cloud import Cloud

SITES = [{"name": name, "compute": "fake"} for name in ("lyon", "nice", "paris")]
DOCUMENT = {"sites": SITES, "topology": {"preset": "mesh", "defaults": {"delay": "10ms", "rate": "100mbit"}}}


class MemoryWan:
    """Remembers the state of each direction, and the cuts."""

    def __init__(self) -> None:
        self.wires, self.cuts = {}, []

    def set(self, link, changes, *, one_way):
        assert one_way
        self.wires[link] = dict(changes)

    def cut(self, name):
        self.cuts.append(name)

    def heal(self, name):
        while name in self.cuts:
            self.cuts.remove(name)


def made():
    wan: Any = MemoryWan()
    network = Cloud.model_validate(DOCUMENT).network
    assert network is not None
    return wan, FaultyLinks(wan, network)


def losses(wan):
    return {link: (wire["delay_ms"], wire["loss"]) for link, wire in sorted(wan.wires.items())}


def test_changes_of_a_site_concern_its_links_in_both_directions():
    wan, links = made()
    links.change("nice", {"delay_ms": 80.0})
    assert set(wan.wires) == {"lyon:nice", "nice:lyon", "nice:paris", "paris:nice"}
    assert {wire["rate_mbit"] for wire in wan.wires.values()} == {100.0}


def test_a_change_that_ends_leaves_the_others():
    wan, links = made()
    links.change("nice", {"delay_ms": 80.0})
    links.change("nice:lyon", {"loss": 0.25})
    assert losses(wan)["lyon:nice"] == (80.0, 0.25)
    links.restore("nice", {"delay_ms": 80.0})
    assert losses(wan) == {"lyon:nice": (10.0, 0.25), "nice:lyon": (10.0, 0.25), "nice:paris": (10.0, 0.0), "paris:nice": (10.0, 0.0)}
    links.restore("nice:lyon", {"loss": 0.25})
    assert set(losses(wan).values()) == {(10.0, 0.0)}


def test_a_link_that_two_faults_cut_heals_after_both():
    wan, links = made()
    links.cut("nice:lyon")
    links.cut("lyon:nice")
    links.heal("nice:lyon")
    assert wan.cuts
    links.heal("lyon:nice")
    assert not wan.cuts
