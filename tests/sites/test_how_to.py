"""How-to guides whose commands are run against real sites, in the order of the page; see `walk`."""

from pathlib import Path

import pytest
from walk import walk

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
CLOUD = """\
sites:
- name: paris
  port: {paris}
- name: nice
  port: {nice}
"""


@pytest.fixture
def two_sites(shell, base_ports):
    """Return a shell beside a running cloud of two sites, with a server at the second one."""
    paris, nice, _other = (next(base_ports) for _ in range(3))
    (shell.directory / "cloud.yaml").write_text(CLOUD.format(paris=paris, nice=nice), encoding="utf-8")
    here = "atoll openstack --site nice"
    for command in (
        "export PATH=$PWD/.venv/bin:$PATH ATOLL_COMPUTE=fake",
        "atoll up cloud.yaml",
        "truncate --size 16M disk.img",
        f"{here} image create demo --file disk.img --disk-format raw --container-format bare",
        f"{here} network create net",
        f"{here} subnet create subnet --network net --subnet-range 10.0.0.0/24",
        f"{here} server create web --image demo --flavor m1.tiny --network net --wait",
    ):
        code, output = shell.run(command)
        assert code == 0, f"{command}: {output}"
    return shell


@pytest.mark.long
def test_restored_site_has_its_servers(two_sites):
    walk(GUIDES / "back-up-and-restore.md", two_sites)
    code, output = two_sites.run("atoll openstack --site nice server list -f value -c Name -c Status")
    assert (code, output.split()) == (0, ["web", "ACTIVE"])


@pytest.mark.long
def test_another_site_replaces_a_failed_one(two_sites):
    code, output = two_sites.run("atoll site kill nice && rm -r ~/.local/state/atoll/sites/nice/data")
    assert code == 0, output
    walk(GUIDES / "replace-a-failed-site.md", two_sites)
