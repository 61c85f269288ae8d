import itertools

from hypothesis import given
from hypothesis import strategies as st

from atoll.cloud.network import Network, Node, Wire

NAMES = "abcdefg"


def network(*wires: tuple[str, str, float], names: str = NAMES) -> Network:
    return Network(tuple(map(Node, names)), {(start, end): Wire(delay_ms=delay) for start, end, delay in wires})


def both(start: str, end: str, delay: float) -> tuple[tuple[str, str, float], ...]:
    return (start, end, delay), (end, start, delay)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    pairs = draw(st.sets(st.sampled_from(list(itertools.permutations(NAMES, 2)))))
    return network(*((start, end, draw(st.integers(0, 50))) for start, end in sorted(pairs)))


def test_way_of_least_delay_where_there_is_no_link():
    made = network(*both("a", "b", 5), *both("b", "c", 5), *both("a", "d", 1), *both("d", "c", 1), names="abcd")
    assert made.path("a", "c") == (("a", "d"), ("d", "c"))
    assert made.rtt_ms("a", "c") == 4


def test_link_is_taken_even_if_a_detour_is_faster():
    made = network(*both("a", "b", 50), *both("a", "c", 1), *both("c", "b", 1), names="abc")
    assert made.path("a", "b") == (("a", "b"),)
    assert made.rtt_ms("a", "b") == 100


def test_fewer_hops_of_two_equal_ways():
    made = network(*both("a", "b", 1), *both("b", "c", 1), *both("a", "d", 0), *both("d", "e", 1), *both("e", "c", 1), names="abcde")
    assert made.path("a", "c") == (("a", "b"), ("b", "c"))


def test_no_way():
    made = network(("a", "b", 1), names="ab")
    assert made.path("a", "b") == (("a", "b"),)
    assert made.path("b", "a") is None
    assert made.rtt_ms("a", "b") is None
    assert made.unreachable() == ("b", "a")


def test_links_are_named_in_the_order_of_the_nodes():
    assert network(("c", "a", 1), ("a", "b", 1), ("b", "a", 1), names="abc").links == (("a", "b"), ("a", "c"))


@given(networks())
def test_packets_never_go_round_in_a_circle(made):
    for start, end in itertools.permutations(NAMES, 2):
        path = made.path(start, end)
        if path is None:
            assert (start, end) not in made.wires
            continue
        visited = [start, *(step[1] for step in path)]
        assert visited[-1] == end
        assert len(set(visited)) == len(visited)
        assert all(step in made.wires for step in path)


@given(networks())
def test_way_is_found_wherever_there_is_one(made):
    reached = {name: {name} for name in NAMES}
    for _round in NAMES:
        for start, end in made.wires:
            for seen in reached.values():
                if start in seen:
                    seen.add(end)
    for start, end in itertools.permutations(NAMES, 2):
        assert (made.path(start, end) is not None) == (end in reached[start])


@given(networks())
def test_a_network_survives_json(made):
    assert Network.from_json(made.to_json()) == made
