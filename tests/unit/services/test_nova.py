"""What services/nova.py repeats of upstream's start-up code is still what upstream does."""

from upstream import check, inside

from atoll.services import nova

MAIN = "services/nova.py `_configure` and `_start` repeat what it does before `service.serve`"


def test_daemons_start_as_we_start_them():
    known = {
        ("nova/cmd/compute.py", "main"): "fca19b9c",
        ("nova/cmd/conductor.py", "main"): "a7008e21",
        ("nova/cmd/scheduler.py", "main"): "ce95ddf0",
        ("nova/service.py", "Service.create"): "116a4e93",
        ("nova/service.py", "Service.start"): "853e2a95",
        ("nova/service.py", "Service.stop"): "531e717e",
    }
    check("nova", known, MAIN)


def test_applications_start_as_we_start_them():
    known = {
        ("nova/api/openstack/wsgi_app.py", "_get_config_files"): "1c080fa5",
        ("nova/api/openstack/wsgi_app.py", "init_global_data"): "d2c9ca1e",
        ("nova/api/openstack/wsgi_app.py", "init_application"): "07e491fc",
        ("nova/api/openstack/wsgi_app.py", "_setup_service"): "647f7bb1",
    }
    check("nova", known, "services/nova.py calls them for two applications in one process, beside three services")


def test_cells_are_mapped_as_we_map_them():
    known = {("nova/objects/host_mapping.py", "discover_hosts"): "2bf8c291", ("nova/cmd/manage.py", "CellV2Commands.map_cell0"): "bc7f0c97"}
    check("nova", known, "services/nova.py `_map_cells` and `_map_hosts` do what `nova-manage cell_v2 simple_cell_setup` does")


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
    from atoll.services import nova

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
