"""Configuration and identity of Nova in one process."""

from upstream import inside

from atoll.services.nova import service as nova


def test_flavors_are_those_that_examples_name():
    assert [name for name, _memory, _vcpus, _disk in nova.FLAVORS] == ["m1.nano", "m1.tiny", "m1.small", "m1.medium", "m1.large"]
    assert all(disk >= 1 for _name, _memory, _vcpus, disk in nova.FLAVORS)


def test_the_first_file_is_the_paste_file(settings):
    found = inside(
        """
        import os
        os.environ["OS_NOVA_CONFIG_DIR"] = "/site/etc/nova"
        os.environ["OS_NOVA_CONFIG_FILES"] = "/upstream/api-paste.ini;nova.conf"
        from nova.api.openstack import wsgi_app
        tell(wsgi_app._get_config_files())
        """
    )
    assert found == ["/upstream/api-paste.ini", "/site/etc/nova/nova.conf"]


IDENTITY = """
    from pathlib import Path
    from nova.conf import CONF
    from nova.virt import node
    from atoll.services.nova import service as nova

    CONF.set_override("state_path", sys.argv[1])
    CONF([], default_config_files=[])
    if sys.argv[2] == "ours":
        nova.identify(Path(sys.argv[1]) / "compute_id")
        nova.identify(Path(sys.argv[1]) / "compute_id")
    flushed = []
    node.os.fsync = flushed.append
    before = node.read_local_node_uuid()
    tell([before, node.get_local_node_uuid(), flushed])
"""


def test_compute_host_has_an_id_that_a_loss_of_power_leaves(tmp_path):
    before, taken, _ = inside(IDENTITY, str(tmp_path), "ours")
    assert before == taken == (tmp_path / "compute_id").read_text()


def test_upstream_still_does_not_flush_it(tmp_path):
    before, taken, flushed = inside(IDENTITY, str(tmp_path), "upstream")
    assert (before, flushed) == (None, [])
    assert taken == (tmp_path / "compute_id").read_text()


MAPPINGS = """
    from nova import exception
    from nova.objects import host_mapping
    from atoll.services.nova import service as nova

    calls, taken = [], int(sys.argv[1])

    def discover_hosts(_context):
        calls.append(1)
        if len(calls) <= taken:
            raise exception.HostMappingExists(name=f"site-{len(calls)}")

    host_mapping.discover_hosts = discover_hosts
    try:
        nova._map_hosts()
        tell(["mapped", len(calls)])
    except exception.HostMappingExists:
        tell(["refused", len(calls)])
"""


def test_hosts_that_compute_sites_map_at_the_same_time_are_not_an_error():
    assert inside(MAPPINGS, "10") == ["mapped", 11]


def test_mapping_hosts_ends_in_any_case():
    assert inside(MAPPINGS, "1000000") == ["refused", nova.MOST_MAPPINGS]
