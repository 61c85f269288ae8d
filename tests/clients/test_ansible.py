"""Ansible's collection `openstack.cloud` makes, changes and removes a tenancy over three sites."""

import re
from pathlib import Path

from foreign import HERE, Client
from three_sites import SITES

PLAYS = HERE / "ansible"
_RECAP = re.compile(r"^localhost +: ok=\d+ +changed=(\d+) ", re.MULTILINE)


def play(client: Client, programs: Path, name: str, values: str = "before") -> int:
    """Run a play of Ansible.

    Returns:
        The number of tasks that changed anything.
    """
    extra = (f"tenancy={client.tenant.name} project={client.tenant.project} image={client.image}", f"@{PLAYS / values}.yml")
    words = [
        programs / "ansible-playbook",
        "--inventory",
        "localhost,",
        "--connection",
        "local",
        *(f"--extra-vars={each}" for each in extra),
    ]
    said = client.run(
        *words, PLAYS / f"{name}.yml", ANSIBLE_PYTHON_INTERPRETER=str(programs / "python"), ANSIBLE_LOCAL_TEMP=str(client.home / "ansible")
    )
    found = _RECAP.search(said)
    assert found, said
    return int(found[1])


def test_a_tenancy_is_made_and_removed_twice(client: Client, programs: Path) -> None:
    before = client.belongings()
    assert play(client, programs, "make") > 0
    made = client.belongings()
    for site in SITES:
        assert len(made[site]["servers"]) == 1, site
    assert play(client, programs, "make") == 0, "a second run must find every resource present"
    assert client.belongings() == made
    assert play(client, programs, "make", "after") > 0
    assert play(client, programs, "make", "after") == 0, "a second run must find every change made"
    play(client, programs, "look", "after")
    assert play(client, programs, "remove") > 0
    assert client.belongings() == before
    assert play(client, programs, "make") > 0
    play(client, programs, "look")
    assert play(client, programs, "remove") > 0
    assert play(client, programs, "remove") == 0, "a second run must find every resource absent"
    assert client.belongings() == before
