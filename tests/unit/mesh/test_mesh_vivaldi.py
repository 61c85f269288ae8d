import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.mesh.vivaldi import Coordinate, Vivaldi

finite = st.floats(-30_000, 30_000)


def converged(rtt, count: int, seed: int, rounds: int = 300, noise: float = 0.0) -> list[Coordinate]:
    rng = random.Random(seed)
    nodes = [Vivaldi(random.Random(rng.random())) for _ in range(count)]
    for _ in range(rounds):
        for i, node in enumerate(nodes):
            j = rng.choice([other for other in range(count) if other != i])
            node.update(rtt(i, j) * (1 + noise * rng.random()), Coordinate.unpack(nodes[j].coordinate.pack()))
    return [node.coordinate for node in nodes]


@pytest.mark.parametrize("seed", range(5))
def test_sites_on_a_plane_are_estimated_within_a_tenth(seed):
    rng = random.Random(seed)
    places = [(rng.uniform(0, 100), rng.uniform(0, 100), rng.uniform(1, 5)) for _ in range(10)]

    def rtt(i, j):
        return math.dist(places[i][:2], places[j][:2]) + places[i][2] + places[j][2]

    found = converged(rtt, 10, seed, noise=0.05)
    off = [abs(found[i].distance(found[j]) - rtt(i, j)) / rtt(i, j) for i, j in itertools.combinations(range(10), 2)]
    assert statistics.median(off) < 0.1


def test_three_sites_at_equal_distance():
    found = converged(lambda _i, _j: 100.0, 3, seed=1)
    assert all(90 < a.distance(b) < 110 for a, b in itertools.combinations(found, 2))


def test_the_error_falls():
    assert max(place.error for place in converged(lambda _i, _j: 40.0, 4, seed=2)) < 0.3


@given(finite, finite, st.floats(0, 30_000), st.floats(0, 1.5))
def test_packing_keeps_a_coordinate(x, y, height, error):
    place = Coordinate(x, y, height, error)
    again = Coordinate.unpack(place.pack())
    assert again.x == pytest.approx(x, rel=1e-3, abs=1e-6)
    assert again.height == pytest.approx(height, rel=1e-3, abs=1e-6)
    assert again.pack() == place.pack()


@given(st.binary(max_size=12))
def test_any_bytes_are_a_place_or_refused(data):
    try:
        place = Coordinate.unpack(data)
    except ValueError:
        return
    assert math.isfinite(place.distance(Coordinate()))


@given(st.lists(st.tuples(st.floats(), st.binary(min_size=8, max_size=8))))
def test_no_peer_can_spoil_a_coordinate(measurements):
    node = Vivaldi(random.Random(0))
    for rtt_ms, data in measurements:
        try:
            node.update(rtt_ms, Coordinate.unpack(data))
        except ValueError:
            continue
    assert Coordinate.unpack(node.coordinate.pack()).pack() == node.coordinate.pack()
