"""Every example is valid, and matches the description in its first line."""

from pathlib import Path

import pytest
import yaml

from atoll.cloud import dump_cloud, parse_cloud, read_cloud

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_read_and_kept(path):
    cloud = read_cloud(path)
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert cloud.name == path.stem
    again = parse_cloud(dump_cloud(cloud), "again")
    assert (again.sites, again.network) == (cloud.sites, cloud.network)


@pytest.mark.parametrize(("name", "full", "thin"), [("triangle", 3, 0), ("thin", 1, 10), ("europe", 20, 0)])
def test_sizes(name, full, thin):
    cloud = read_cloud(ROOT / "examples" / f"{name}.yaml")
    assert (len(cloud.full_sites), len(cloud.sites) - len(cloud.full_sites)) == (full, thin)
    assert cloud.network is not None


def test_topologies_of_the_page_are_read():
    blocks = (ROOT / "docs" / "how-to" / "emulate-a-wan.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
    texts = [block.split("```")[0] for block in blocks]
    assert len(texts) == 2
    for text in texts:
        data = yaml.safe_load(text)
        data.setdefault("sites", [{"name": "paris"}, {"name": "edge-1"}, {"name": "monitor"}])
        assert parse_cloud(yaml.safe_dump(data), "emulate-a-wan.md").network is not None


def test_cloud_of_the_tutorial_is_the_example():
    page = (ROOT / "docs" / "tutorial" / "three-sites.md").read_text(encoding="utf-8")
    shown = page.split("```yaml\n")[1].split("```")[0]
    example = (ROOT / "examples" / "triangle.yaml").read_text(encoding="utf-8")
    assert shown == "".join(line for line in example.splitlines(keepends=True) if not line.startswith("#"))
