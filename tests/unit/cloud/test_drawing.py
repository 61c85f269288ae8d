from xml.etree import ElementTree

import pytest

from atoll.cloud import parse_cloud
from atoll.cloud.drawing import points, spell_wire, svg, text_map
from atoll.cloud.network import Network, Node, Wire

LOCATED = (
    "sites: [{name: paris}, {name: lyon}, {name: nice}]\ntopology:\n  distance: true\n"
    "  locations: {paris: [48.86, 2.35], lyon: [45.76, 4.84], nice: [43.7, 7.27]}"
)


@pytest.fixture
def network() -> Network:
    made = parse_cloud(LOCATED, "c.yaml").network
    assert made is not None
    return made


def test_map_has_north_above_and_east_right(network):
    at = points(network)
    assert at["paris"][1] < at["lyon"][1] < at["nice"][1]
    assert at["paris"][0] < at["lyon"][0] < at["nice"][0]


def test_circle_without_locations():
    made = Network(tuple(map(Node, "abcd")))
    assert len(set(points(made).values())) == 4
    assert all(0 <= part <= 1 for place in points(made).values() for part in place)


@pytest.mark.parametrize("locations", [None, (1.0, 2.0)])
def test_one_site_can_be_drawn(locations):
    made = Network((Node("alone", location=locations),))
    assert "alone" in "\n".join(text_map(made, 40, 5))
    ElementTree.fromstring(svg(made))


def test_text_map_names_every_site_and_stays_in_its_frame(network):
    lines = text_map(network, 60, 12)
    assert len(lines) == 12
    assert max(map(len, lines)) <= 60
    assert all(f"● {name}" in "\n".join(lines) for name in ("paris", "lyon", "nice"))


def test_svg_is_xml_with_a_circle_for_each_site_and_a_line_for_each_link(network):
    root = ElementTree.fromstring(svg(network))
    assert len(root.findall("{*}circle")) == 3
    assert len(root.findall("{*}line")) == 3


def test_wire_in_words():
    wire = Wire(delay_ms=10, jitter_ms=1, rate_mbit=2500, loss=0.005, reorder=0.1)
    assert spell_wire(wire) == "10ms ± 1ms, 2.5gbit, loss 0.5%, reorder 10%"
    assert spell_wire(Wire()) == "0ms"
