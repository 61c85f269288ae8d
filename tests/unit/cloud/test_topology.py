import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from atoll.cloud import dump_cloud, parse_cloud
from atoll.cloud.expansion import expand
from atoll.cloud.geography import delay_ms, distance_km, route_km
from atoll.cloud.network import Network, Wire
from atoll.cloud.topology import Topology

SITES = "sites: [{name: a}, {name: b}, {name: c}]\n"

DURATION = "expected a duration from 0 to 60s, such as 25ms"

BAD = {
    "topology:\n  links:\n  - {between: [a, x]}": "4: topology.links[0].between: no site or router is called x: expected one of a, b, c",
    "topology:\n  links:\n  - {between: [a, a]}": "4: topology.links[0].between: a link from a to itself: expected two different ends",
    "topology:\n  links:\n  - {between: [a, b]}": "2: topology: no path leads from a to c: expected links that connect all sites",
    "topology:\n  defaults: {delay: -1ms}": f"3: topology.defaults.delay: {DURATION}, got the text '-1ms'",
    "topology:\n  defaults: {delay: 10}": f"3: topology.defaults.delay: {DURATION}, got 10",
    "topology:\n  defaults: {delay: 61s}": f"3: topology.defaults.delay: {DURATION}, got the text '61s'",
    "topology:\n  defaults: {rate: 0mbit}": "3: topology.defaults.rate: "
    "expected a rate from 1kbit to 30gbit, such as 100mbit, or `unlimited`, got the text '0mbit'",
    "topology:\n  defaults: {loss: 101%}": "3: topology.defaults.loss: "
    "expected a percentage from 0% to 100%, such as 0.5%, got the text '101%'",
    "topology:\n  defaults: {dely: 1ms}": "3: topology.defaults: unknown key `dely` (did you mean `delay`?): "
    "expected one of delay, jitter, rate, loss, reorder",
    "topology:\n  preset: tree": "3: topology.preset: expected `mesh`, `star` or `ring`, got the text 'tree'",
    "topology: {preset: mesh, center: a}": "2: topology.center: only a star has a center: expected `preset: star`, or no `center`",
    "topology: {preset: star, center: x}": "2: topology.center: no site is called x: expected one of a, b, c",
    "topology:\n  constraints:\n  - {between: [a, nowhere]}": "4: topology.constraints[0].between: no group or site is called nowhere: "
    "expected one of a, b, c",
    "topology:\n  groups: {core: [z*]}": "3: topology.groups.core: no site or router is called z*: expected one of a, b, c",
    "topology:\n  groups: {a: [b]}": "3: topology.groups.a: a is a site or router too: expected another name for the group",
    "topology:\n  exempt: [x]": "3: topology.exempt[0]: no group or site is called x: expected one of a, b, c",
    "topology:\n  routers: [{name: b}]": "3: topology.routers[0].name: a second site or router named b: expected another name",
    "topology:\n  distance: true": "3: topology.distance: a has no location to derive delays from: expected one in `locations`",
    "topology:\n  locations: {x: [1.0, 2.0]}": "3: topology.locations.x: no site is called x: expected one of a, b, c",
    "topology:\n  locations: {a: [91.0, 2.0]}": "3: topology.locations.a[0]: expected a mapping such as {paris: [48.86, 2.35]}, got 91.0",
    "topology:\n  links: [{between: [a]}]": "3: topology.links[0].between[1]: "
    "expected the names of two sites, such as [paris, lyon], got a list",
    "topology:\n  links: [{delay: 1ms}]": "3: topology.links[0]: `between` is missing: "
    "expected the names of two sites, such as [paris, lyon]",
    "topology: mesh": "2: topology: expected a mapping such as {preset: mesh, defaults: {delay: 10ms}}, got the text 'mesh'",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_topology_gets_one_line_with_place_and_expectation(text):
    assert refusal("cloud.invalid", parse_cloud, SITES + text, "c.yaml") == f"c.yaml:{BAD[text]}"


def network(text: str, sites: str = SITES) -> Network:
    made = parse_cloud(sites + text, "c.yaml").network
    assert made is not None
    return made


def test_no_topology_no_network():
    assert parse_cloud(SITES, "c.yaml").network is None


def test_mesh_unless_something_else_is_said():
    assert network("topology: {}").links == (("a", "b"), ("a", "c"), ("b", "c"))
    assert network("topology: {links: [{between: [c, b]}, {between: [b, a]}]}").links == (("a", "b"), ("b", "c"))


@pytest.mark.parametrize(
    ("preset", "links"),
    [
        ("preset: ring", {"ab", "bc", "cd", "ad"}),
        ("preset: star", {"ab", "ac", "ad"}),
        ("{preset: star, center: c}", {"ac", "bc", "cd"}),
        ("preset: mesh", {"ab", "ac", "ad", "bc", "bd", "cd"}),
    ],
)
def test_presets(preset, links):
    sites = "sites: [{name: a}, {name: b}, {name: c}, {name: d}]\n"
    text = preset if preset.startswith("{") else f"{{{preset}}}"
    assert {"".join(link) for link in network(f"topology: {text}", sites).links} == links


def test_ring_of_two_has_one_link():
    assert network("topology: {preset: ring}", "sites: [{name: a}, {name: b}]\n").links == (("a", "b"),)


def test_links_add_to_a_preset_and_change_it():
    made = network(
        "topology:\n  preset: star\n  defaults: {delay: 1ms}\n  links: [{between: [b, c], delay: 7ms}, {between: [a, b], loss: 1%}]"
    )
    assert made.wires["b", "c"] == made.wires["c", "b"] == Wire(delay_ms=7)
    assert made.wires["b", "a"] == Wire(delay_ms=1, loss=0.01)


def test_one_way():
    made = network("topology:\n  defaults: {delay: 1ms}\n  links: [{between: [b, a], delay: 7ms, one_way: true}]\n  preset: mesh")
    assert (made.wires["b", "a"].delay_ms, made.wires["a", "b"].delay_ms) == (7, 1)


def test_groups_defaults_and_exceptions_as_in_enos():
    made = network(
        "topology:\n"
        "  defaults: {delay: 25ms, rate: 10gbit}\n"
        "  groups: {core: [a], edge: [b*], watch: [monitor]}\n"
        "  constraints:\n"
        "  - {between: [core, edge], delay: 50ms, loss: 0.1%}\n"
        "  - {between: [edge, core], rate: 10mbit, one_way: true}\n"
        "  exempt: [watch]\n",
        "sites: [{name: a}, {name: b1}, {name: b2}, {name: monitor}]\n",
    )
    assert made.wires["a", "b1"] == Wire(delay_ms=50, rate_mbit=10_000, loss=0.001)
    assert made.wires["b2", "a"] == Wire(delay_ms=50, rate_mbit=10, loss=0.001)
    assert made.wires["b1", "b2"] == Wire(delay_ms=25, rate_mbit=10_000)
    assert made.wires["monitor", "b1"] == Wire()


def test_distance_gives_delay_where_nobody_says_one():
    text = "topology:\n  distance: true\n  defaults: {delay: 1ms}\n  locations: {a: [48.86, 2.35], b: [45.76, 4.84], c: [52.52, 13.4]}\n"
    made = network(text + "  constraints: [{between: [a, c], delay: 3ms}]")
    assert made.wires["a", "b"].delay_ms == delay_ms((48.86, 2.35), (45.76, 4.84))
    assert made.wires["c", "a"].delay_ms == 3


def test_distances():
    assert distance_km((48.8566, 2.3522), (40.7128, -74.0060)) == pytest.approx(5837, abs=3)  # Paris to New York
    assert distance_km((0, 0), (0, 180)) == pytest.approx(20015, abs=1)
    assert [route_km(distance) for distance in (0, 100, 999, 1000, 1200, 2000)] == [0, 150, 1498.5, 1500, 1500, 2500]
    assert delay_ms((48.8566, 2.3522), (40.7128, -74.0060)) == pytest.approx(5837 * 1.25 / 200, abs=0.02)


def test_a_written_cloud_is_read_back_unchanged():
    text = (
        "topology:\n  preset: star\n  center: b\n  distance: true\n  locations: {a: [1, 2.5], b: [3, 4], c: [5, 6]}\n"
        "  groups: {x: [a, c]}\n  constraints: [{between: [x, b], jitter: 1ms, one_way: true}]\n  routers: [{name: r, location: [7, 8]}]\n"
        "  links: [{between: [r, a], delay: 10us, reorder: 5%}]\n  rerouting: true\n"
    )
    cloud = parse_cloud(SITES + text, "c.yaml")
    again = parse_cloud(dump_cloud(cloud), "again")
    assert again == cloud
    assert again.network == cloud.network


GROUPS = st.dictionaries(st.sampled_from(["g", "h"]), st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map(tuple), max_size=2)


@given(GROUPS, st.data())
def test_expansion_touches_what_is_named_and_nothing_else(groups, data):
    names = st.sampled_from([*groups, *"abcd"])
    left, right, one_way = data.draw(names), data.draw(names), data.draw(st.booleans())
    said = {"between": (left, right), "delay": "9ms", "one_way": one_way}
    made = expand("abcd", Topology.model_validate({"defaults": {"delay": "1ms"}, "groups": groups, "constraints": [said]}))
    first, second = (set(groups.get(name, name)) for name in (left, right))
    for (start, end), wire in made.wires.items():
        named = (start in first and end in second) or (not one_way and start in second and end in first)
        assert wire == Wire(delay_ms=9 if named else 1)
