import pytest

from atoll.mesh.neighbours import FULL, MAX_STEPS, RINGS, rings_of


def names_of(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


def nobody(_name: str) -> bool:
    return False


def steps_from(name: str, links: dict[str, frozenset[str]]) -> int:
    """Return the number of links to the farthest member; -1 if one can't be reached."""
    reached, edge, steps = {name}, {name}, 0
    while edge := {each for one in edge for each in links[one]} - reached:
        reached |= edge
        steps += 1
    return steps if reached == links.keys() else -1


def test_in_a_small_cloud_all_are_neighbours():
    assert rings_of(names_of(FULL)) is None
    assert rings_of(names_of(FULL + 1)) is not None


@pytest.mark.parametrize("count", [FULL + 1, 300, 1000])
def test_neighbours_are_mutual_few_and_near_to_all(count):
    names = names_of(count)
    rings = rings_of(names)
    assert rings is not None
    links = {name: rings.neighbours(name, nobody) for name in names}
    assert all(name in links[other] for name in names for other in links[name])
    assert all(2 < len(near) <= 2 * RINGS and name not in near for name, near in links.items())
    assert 0 < steps_from("s0", links) <= 7


def test_a_newcomer_changes_only_the_links_beside_it():
    before, after = rings_of(names_of(500)), rings_of(names_of(501))
    assert before is not None
    assert after is not None
    changed = [name for name in names_of(500) if before.neighbours(name, nobody) != after.neighbours(name, nobody)]
    assert len(changed) <= 2 * RINGS


def test_behind_a_dead_neighbour_is_the_next_one():
    names = names_of(200)
    rings = rings_of(names)
    assert rings is not None
    near = rings.neighbours("s0", nobody)
    further = rings.neighbours("s0", near.__contains__)
    assert near < further
    assert len(rings.neighbours("s0", lambda _name: True)) <= 2 * RINGS * MAX_STEPS
