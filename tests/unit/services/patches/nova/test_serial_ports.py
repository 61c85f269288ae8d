"""The serial port of a guest that is unrescued, with upstream's real driver."""

import pytest
from upstream import inside

pytest.importorskip("libvirt")

UNRESCUE = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import tempfile
    from pathlib import Path
    from unittest import mock
    from nova.conf import CONF
    from nova.console import serial
    from nova.virt.libvirt import driver, utils
    from atoll.services.patches.nova import serial_ports

    CONF([], project="nova", default_config_files=[])
    CONF.set_override("enabled", True, group="serial_console")
    CONF.set_override("port_range", "10000:20000", group="serial_console")
    if len(sys.argv) == 2:
        serial_ports.install()
    source = '<source mode="bind" host="127.0.0.1" service="10000"/>'
    file = Path(tempfile.mkdtemp()) / "unrescue.xml"
    file.write_text(
        f'<domain><devices><serial type="tcp">{source}</serial><console type="tcp">{source}</console>'
        '<serial type="pty"><source path="/dev/pts/3"/></serial><graphics type="vnc" port="10000"/></devices></domain>'
    )
    other = "10000" if sys.argv[1] == "taken" else "10005"
    serial.ALLOCATED_PORTS.add(("127.0.0.1", int(other)))
    made = driver.LibvirtDriver.__new__(driver.LibvirtDriver)
    with mock.patch.object(serial, "_verify_port"), mock.patch.object(utils, "get_instance_path", return_value=str(file.parent)), \\
            mock.patch.object(made, "_destroy"), mock.patch.object(made, "_create_guest") as created, \\
            mock.patch.object(driver.lvm, "remove_volumes"), mock.patch.object(made, "_lvm_disks", return_value=[]):
        made.unrescue(None, mock.Mock(uuid="u"))
    tell(created.call_args.args[1])
"""


@pytest.mark.parametrize(("other", "port"), [("taken", "10001"), ("free", "10000")])
def test_serial_console_is_at_a_port_that_no_other_guest_has(other, port):
    found = inside(UNRESCUE, other)
    assert found.count(f'service="{port}"') == 2
    assert found.count("service=") == 2
    assert '<graphics type="vnc" port="10000"/>' in found


def test_upstream_gives_out_a_port_that_another_guest_has():
    """If this fails, patches/nova/serial_ports.py can go."""
    assert inside(UNRESCUE, "taken", "stock").count('service="10000"') == 2
