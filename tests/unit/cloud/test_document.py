import pytest
from refusals import refusal

from atoll.cloud import Cloud, dump_cloud, parse_cloud, read_cloud
from atoll.errors import AtollError

A_NAME = "expected a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter"
KEYS = (
    "name, kind, control, port, host, services, compute, network, network_services, bus, rabbit, database, durability, traffic, "
    "cloudlet_cache_gib, cloudlet_memory_keys, debug, options"
)
URL = "expected a URL without a password, such as rabbit://openstack@10.0.0.1:5672/"

BAD = {
    "": "1: the file is empty: expected a mapping with `sites`, such as {sites: [{name: paris}]}",
    "a": "1: expected a mapping with `sites`, got the text 'a'",
    "[1]": "1: expected a mapping with `sites`, got a list",
    "name: x": "1: `sites` is missing: expected a list of at least one site, such as [{name: paris}]",
    "name: x\nsites: []": "2: sites: expected a list of at least one site, such as [{name: paris}]",
    "sites:\n- paris": "2: sites[0]: expected a mapping with at least `name`, got the text 'paris'",
    "sites:\n- port: 15000": f"2: sites[0]: `name` is missing: {A_NAME}",
    "sites:\n- name: a\n  prot: 1": f"3: sites[0]: unknown key `prot` (did you mean `port`?): expected one of {KEYS}",
    "sites:\n- name: no": f"2: sites[0].name: {A_NAME}, got false (quote it to make it text)",
    "sites:\n- name: a\n  port: '15000'": "3: sites[0].port: expected an integer from 1024 to 65520, got the text '15000'",
    "sites:\n- name: a\n  port: 80\n  debug: 1": "3: sites[0].port: expected an integer from 1024 to 65520, got 80 (and 1 more)",
    "sites:\n- name: a\n- name: a": "3: sites[1].name: a second site named a: expected another name",
    "sites:\n- name: a\n  services:\n    nova: 1": "4: sites[0].services.nova: expected true or false, got 1",
    "sites:\n- name: a\n  compute: kvm": "3: sites[0].compute: expected `libvirt` or `fake`, got the text 'kvm'",
    "sites:\n- name: a\n  durability: none": "3: sites[0].durability: expected `full` or `relaxed`, got the text 'none'",
    "sites:\n- name: default": "2: sites[0].name: the name default is reserved: expected another name",
    "sites:\n- name: a\n  name: b": "3: the key `name` occurs twice in one mapping: expected it once",
    "sites: [a\nb: c": "2: not YAML: expected ',' or ']', but got ':'",
    "sites:\n\t- a": r"2: not YAML: found character '\t' that cannot start any token",
    "a: 1\n---\nb: 1": "2: not YAML: but found another document",
    "sites:\n- name: a\n  options: 3": "3: sites[0].options: "
    "expected services by name, such as {nova: {DEFAULT: {cpu_allocation_ratio: 4}}}",
    "sites:\n- name: a\n  options: {cinder: {}}": "3: sites[0].options: no service is called cinder: "
    "expected one of keystone, placement, glance, neutron, nova",
    "sites:\n- name: a\n  options: {nova: {DEFAULT: {x: {}}}}": "3: sites[0].options: option x: "
    "expected a text, a number, true, false, or a list of these",
    "sites:\n- name: a\n- name: e\n  kind: compute": "4: sites[1].kind: e is a compute site: "
    "expected `control` beside it, the name of a full site",
    "sites:\n- name: a\n- name: e\n  kind: compute\n  control: b": "5: sites[1].control: no full site is called b: expected one of a",
    "sites:\n- name: a\n  bus: local": "3: sites[0].bus: expected `zenoh` or `rabbit`, got the text 'local'",
    "sites:\n- name: a\n  bus: rabbit\n  rabbit: {}": f"4: sites[0].rabbit: `url` is missing: {URL}",
    "sites:\n- name: a\n  bus: rabbit\n  rabbit:\n    url: rabbit://u:secret@h/": f"5: sites[0].rabbit.url: {URL}; "
    "the password belongs in `password_file`",
    "sites:\n- name: a\n  rabbit: rabbit://u:secret@h/": "3: sites[0].rabbit: "
    "expected a mapping such as {url: rabbit://openstack@10.0.0.1:5672/}, got the text 'rabbit://…@h/'",
    "sites:\n- name: a\n  rabbit: {url: rabbit://u@h/, password_file: here}": "3: sites[0].rabbit.password_file: "
    "expected the absolute path of a file, such as /etc/rabbit.password, got the text 'here'",
    "1: 2\nsites: [{name: a}]": "1: a key is 1: expected a text as key",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_yaml_gets_one_line_with_place_and_expectation(text):
    assert refusal("cloud.invalid", parse_cloud, text, "c.yaml") == f"c.yaml:{BAD[text]}"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"\x00\x01", "sites: 2026-99-99", "- " * 5000, "? [a]\n: b", "x: !!python/name:os.system"]
)
def test_nothing_but_an_expected_error_comes_of_garbage(content):
    with pytest.raises(AtollError) as caught:
        parse_cloud(content, "c.yaml")
    assert "\n" not in caught.value.message


def test_aliases_that_go_round_in_a_circle():
    with pytest.raises(AtollError, match="sites"):
        parse_cloud("sites: &a [*a]", "c.yaml")


def test_missing_file(tmp_path):
    with pytest.raises(AtollError) as caught:
        read_cloud(tmp_path / "none.yaml")
    assert caught.value.kind.code == "cloud.not_found"


def test_directory_instead_of_file(tmp_path):
    with pytest.raises(AtollError, match="is a directory: expected a file"):
        read_cloud(tmp_path)


def test_huge_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(AtollError, match="at most"):
        read_cloud(path)


OF_ALL_KINDS = """
name: mine
sites:
- {name: a, debug: yes}
- {name: b, services: {nova: false}, durability: relaxed}
- {name: c, bus: rabbit, rabbit: {url: "rabbit://u@h:5672/", password_file: /x}}
- {name: d, kind: compute, control: a, host: 127.0.0.2}
"""


def test_a_written_cloud_is_read_back_unchanged():
    cloud = parse_cloud(OF_ALL_KINDS, "c.yaml")
    assert parse_cloud(dump_cloud(cloud), "again") == cloud
    assert "15010" in dump_cloud(cloud)
    assert dump_cloud(Cloud.default()) == "name: atoll\nsites:\n- name: local\n  port: 15000\n"
