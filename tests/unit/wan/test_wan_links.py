import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cloud.network import Network, Node, Wire
from atoll.errors import AtollError
from atoll.wan.links import Links, check


def mesh(names: str = "abc", delay_ms: float = 5) -> Network:
    return Network(tuple(map(Node, names)), {ends: Wire(delay_ms=delay_ms) for ends in itertools.permutations(names, 2)})


def line(names: str = "abc") -> Network:
    steps = [*itertools.pairwise(names), *itertools.pairwise(reversed(names))]
    return Network(tuple(map(Node, names)), {ends: Wire(delay_ms=5) for ends in steps})


def rtts(links: Links) -> dict[str, float | None]:
    return {item["from"] + item["to"]: item["rtt_ms"] for item in links.asked()}


def test_set_both_ways_and_one_way():
    links = Links(mesh())
    assert set(links.set("a:b", {"delay_ms": 20})) == {("a", "b"), ("b", "a")}
    assert links.set("b:a", {"loss": 0.5}, one_way=True) == [("b", "a")]
    assert links.wire(("a", "b")) == Wire(delay_ms=20)
    assert links.wire(("b", "a")) == Wire(delay_ms=20, loss=0.5)
    assert rtts(links) == {"ab": 40, "ac": 10, "bc": 10}


@pytest.mark.parametrize("name", ["a", "a:x", "x:a", "a-b", "", ":", "a:b:c"])
def test_unknown_links(name):
    with pytest.raises(AtollError) as caught:
        Links(mesh()).set(name, {"delay_ms": 1})
    assert caught.value.kind.code == "wan.unknown"


@pytest.mark.parametrize("changes", [{}, {"dely_ms": 1}])
def test_nothing_to_set(changes):
    with pytest.raises(AtollError) as caught:
        Links(mesh()).set("a:b", changes)
    assert caught.value.kind.code == "wan.invalid"


@pytest.mark.parametrize(
    "changes", [{"delay_ms": -1}, {"delay_ms": "5"}, {"loss": 1.1}, {"rate_mbit": 0}, {"delay_ms": None}, {"loss": True}, {"delay_ms": 1e9}]
)
def test_values_that_no_wire_has(changes):
    with pytest.raises(AtollError) as caught:
        check(changes)
    assert caught.value.kind.code == "wan.invalid"


def test_values_that_a_wire_has():
    changes = {"delay_ms": 0, "rate_mbit": None, "loss": 1, "reorder": 0.5}
    assert check(changes) == changes


def test_cut_of_a_link_and_of_a_site():
    links = Links(mesh())
    links.cut("b:a")
    links.cut("c")
    assert links.cuts == ["c", "a:b"]
    assert not any(links.up(ends) for ends in links.network.wires)
    links.heal("c")
    assert links.cuts == ["a:b"]
    assert rtts(links) == {"ab": None, "ac": 10, "bc": 10}
    links.heal()
    assert rtts(links) == {"ab": 10, "ac": 10, "bc": 10}


def test_healing_a_site_leaves_a_link_of_it_cut():
    links = Links(mesh())
    links.cut("a")
    links.cut("a:b")
    links.heal("a")
    assert not links.up(("a", "b"))
    assert links.up(("a", "c"))


def test_packets_keep_their_way_unless_they_may_go_around():
    assert rtts(_cut(Links(mesh())))["ab"] is None
    assert rtts(_cut(Links(mesh(), rerouting=True)))["ab"] == 20


def _cut(links: Links) -> Links:
    links.cut("a:b")
    return links


def test_way_through_another_site():
    links = Links(line())
    assert rtts(links) == {"ab": 10, "ac": 20, "bc": 10}
    links.cut("b:c")
    assert rtts(links) == {"ab": 10, "ac": None, "bc": None}


def test_other_topology_keeps_what_was_set_and_cut_where_it_says_the_same():
    links = Links(mesh())
    links.set("a:b", {"delay_ms": 20})
    links.set("a:c", {"delay_ms": 30})
    links.cut("c")
    changed = mesh("abcd")
    wires = {**changed.wires, ("a", "c"): Wire(delay_ms=1), ("c", "a"): Wire(delay_ms=1)}
    links.follow(Network(changed.nodes, wires))
    assert links.wire(("a", "b")).delay_ms == 20
    assert links.wire(("a", "c")).delay_ms == 1
    assert links.cuts == ["c"]
    links.follow(mesh("ab"))
    assert links.cuts == []


ACTIONS = st.lists(st.tuples(st.sampled_from(["cut", "heal"]), st.sampled_from(["a", "b", "c", "a:b", "b:c", "c:a"])), max_size=12)


@given(ACTIONS, st.booleans())
def test_after_healing_everything_is_as_before(actions, rerouting):
    links = Links(mesh(), rerouting=rerouting)
    before = links.asked()
    for action, name in actions:
        getattr(links, action)(name)
    links.heal()
    assert links.asked() == before
    assert links.cuts == []


@given(ACTIONS)
def test_the_last_change_of_a_name_applies(actions):
    links, cut = Links(mesh()), set()
    for action, name in actions:
        getattr(links, action)(name)
        key = frozenset(name.split(":"))
        cut = cut | {key} if action == "cut" else cut - {key}
    for ends in links.network.wires:
        assert links.up(ends) == (frozenset(ends) not in cut and not any(frozenset({end}) in cut for end in ends))
