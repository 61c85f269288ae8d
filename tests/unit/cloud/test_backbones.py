import sys
from types import SimpleNamespace

import pytest

from atoll.cloud import dump_cloud, parse_cloud, read_cloud
from atoll.cloud.backbones import slug
from atoll.cloud.geography import delay_ms
from atoll.errors import AtollError

# In the format of the Internet Topology Zoo: two cities with locations, a label used twice, parallel links, a link to itself.
ZOO = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="label" attr.type="string" for="node" id="d1" />
  <key attr.name="Longitude" attr.type="double" for="node" id="d2" />
  <key attr.name="Latitude" attr.type="double" for="node" id="d3" />
  <graph edgedefault="undirected">
    <node id="0"><data key="d1">Paris</data><data key="d2">2.35</data><data key="d3">48.86</data></node>
    <node id="1"><data key="d1">St. Gallen</data><data key="d2">9.37</data><data key="d3">47.42</data></node>
    <node id="2"><data key="d1">Paris</data><data key="d2">2.40</data><data key="d3">48.80</data></node>
    <edge source="0" target="1" /><edge source="1" target="0" /><edge source="1" target="2" /><edge source="2" target="2" />
  </graph>
</graphml>
"""


@pytest.fixture
def cloud(tmp_path):
    """Return a function that reads a cloud whose file is beside backbone.graphml and rtt.csv."""
    (tmp_path / "backbone.graphml").write_text(ZOO, encoding="utf-8")

    def cloud_(text: str):
        (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
        return read_cloud(tmp_path / "c.yaml")

    return cloud_


def test_sites_are_at_the_nodes_of_their_names_and_the_rest_are_routers(cloud):
    network = cloud("sites: [{name: edge}, {name: paris}]\ntopology: {backbone: {file: backbone.graphml}}").network
    assert [(node.name, node.site) for node in network.nodes] == [("edge", True), ("paris", True), ("paris-2", False)]
    assert network.links == (("edge", "paris"), ("edge", "paris-2"))
    assert network.nodes[1].location == (48.86, 2.35)
    assert network.wires["edge", "paris"].delay_ms == delay_ms((47.42, 9.37), (48.86, 2.35))


def test_places_and_defaults(cloud):
    text = (
        "sites: [{name: x}]\ntopology:\n  backbone: {file: backbone.graphml, places: {x: St. Gallen}}\n"
        "  defaults: {rate: 1gbit}\n  links: [{between: [x, paris], delay: 1ms}]"
    )
    network = cloud(text).network
    assert [node.name for node in network.nodes] == ["x", "paris", "paris-2"]
    assert (network.wires["paris", "x"].delay_ms, network.wires["paris", "x"].rate_mbit) == (1, 1000)


def test_the_expanded_yaml_needs_no_file(cloud, tmp_path):
    made = cloud("sites: [{name: paris}]\ntopology: {backbone: {file: backbone.graphml}}")
    (tmp_path / "backbone.graphml").unlink()
    assert parse_cloud(dump_cloud(made), "again").network == made.network


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("backbone: {file: none.graphml}", "topology.backbone.file: {}/none.graphml: no such file or directory"),
        ("backbone: {file: c.yaml}", "topology.backbone.file: {}/c.yaml: expected GraphML"),
        ("backbone: {file: backbone.graphml, places: {a: Rome}}", "no node is called Rome: expected one of Paris, St. Gallen, Paris 2"),
        ("backbone: {file: backbone.graphml, places: {x: Paris}}", "no site is called x: expected one of a, b, c, d"),
        ("backbone: {file: backbone.graphml, places: {a: Paris, b: Paris}}", "two sites are at one node"),
        (
            "backbone: {file: backbone.graphml}",
            "topology.backbone: the backbone has 3 nodes for 4 sites: expected a backbone with more nodes",
        ),
        ("backbone: {file: backbone.graphml}\n  preset: mesh", "a backbone is given beside a preset or a matrix: expected one of them"),
        ("backbone: {flie: backbone.graphml}", "topology.backbone: `file` is missing"),
        ("backbone: {file: 'topohub:topozoo/Nowhere'}", "topology.backbone.file: topohub has no topology topozoo/Nowhere"),
        ("matrix: none.csv", "topology.matrix: {}/none.csv: no such file or directory"),
        ("matrix: c.yaml", "topology.matrix: {}/c.yaml: a is missing: expected a row and a column for each site"),
        ("matrix: c.yaml\n  preset: mesh", "a matrix is given beside a preset: expected one of them"),
    ],
)
def test_files_that_can_not_be_used(cloud, tmp_path, monkeypatch, topology, said):
    def get(key: str) -> None:
        raise KeyError(key)

    monkeypatch.setitem(sys.modules, "topohub", SimpleNamespace(get=get))
    with pytest.raises(AtollError) as caught:
        cloud(f"sites: [{{name: a}}, {{name: b}}, {{name: c}}, {{name: d}}]\ntopology:\n  {topology}")
    assert said.format(tmp_path) in caught.value.message
    assert "\n" not in caught.value.message


def test_topohub(cloud, monkeypatch):
    graph = {
        "directed": False, "multigraph": False, "graph": {},
        "nodes": [{"id": 0, "name": "Lyon", "pos": [4.84, 45.76]}, {"id": 1, "name": "Nice", "pos": [7.27, 43.7]}],
        "edges": [{"source": 0, "target": 1}],
    }  # fmt: skip
    monkeypatch.setitem(sys.modules, "topohub", SimpleNamespace(get={"topozoo/Two": graph}.__getitem__))
    network = cloud("sites: [{name: nice}, {name: lyon}]\ntopology: {backbone: {file: 'topohub:topozoo/Two'}}").network
    assert network.links == (("nice", "lyon"),)
    assert network.nodes[0].location == (43.7, 7.27)


def test_topohub_that_is_not_installed(cloud, monkeypatch):
    monkeypatch.setitem(sys.modules, "topohub", None)
    with pytest.raises(AtollError, match="topohub is not installed"):
        cloud("sites: [{name: a}]\ntopology: {backbone: {file: 'topohub:topozoo/Two'}}")


def test_matrix_of_round_trips(cloud, tmp_path):
    (tmp_path / "rtt.csv").write_text("rtt, a, b, c, other\na,,10,40,1\nb,14,,,1\nc,40,,,1\n\nother,1,1,1,\n", encoding="utf-8")
    network = cloud("sites: [{name: a}, {name: b}, {name: c}]\ntopology: {matrix: rtt.csv, defaults: {loss: 1%}}").network
    assert network.links == (("a", "b"), ("a", "c"))
    assert (network.wires["a", "b"].delay_ms, network.wires["b", "a"].delay_ms) == (5, 7)
    assert network.rtt_ms("b", "c") == 12 + 40
    assert network.wires["c", "a"].loss == 0.01


@pytest.mark.parametrize("cell", ["-1", "fast", "nan", "1e9"])
def test_matrix_with_a_cell_that_makes_no_sense(cloud, tmp_path, cell):
    (tmp_path / "rtt.csv").write_text(f",a,b\na,,{cell}\nb,1,\n", encoding="utf-8")
    with pytest.raises(AtollError, match=rf"rtt.csv: from a to b: expected milliseconds of 0 or more, got {cell}"):
        cloud("sites: [{name: a}, {name: b}]\ntopology: {matrix: rtt.csv}")


@pytest.mark.parametrize(
    ("label", "name"), [("St. Gallen", "st-gallen"), ("1 Wilshire", "node-1-wilshire"), ("", "node"), ("Zürich", "z-rich")]
)
def test_names_of_routers(label, name):
    assert slug(label) == name
