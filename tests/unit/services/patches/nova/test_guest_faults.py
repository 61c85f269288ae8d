"""Reasons why a guest cannot start, with upstream's real exceptions."""

import pytest
from upstream import inside

pytest.importorskip("libvirt")

PRELUDE = """
    import errno
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from nova import exception
    from nova.conf import CONF
    from oslo_concurrency.processutils import ProcessExecutionError
    from atoll.services.patches.nova import guest_faults

    CONF.set_override("instances_path", sys.argv[1])
"""

FAULTS = {
    "full": ('raise OSError(errno.ENOSPC, "No space left on device", "/base.part")', "the disk is full: "),
    "full for a program": (
        'raise ProcessExecutionError(cmd="/usr/bin/qemu-img convert", stderr="qemu-img: error while writing: No space left on device\\n")',
        "the disk is full: ",
    ),
    "a program failed": (
        'raise ProcessExecutionError(cmd="/usr/bin/qemu-img info x", stderr="warning: y\\nqemu-img: Could not open x: Corrupt\\n")',
        "qemu-img: Could not open x: Corrupt",
    ),
    "a program failed without a word": (
        'raise ProcessExecutionError(cmd="/usr/bin/qemu-img info x", stderr="", exit_code=3)',
        "qemu-img failed with exit code 3",
    ),
    "ports": (
        'raise exception.SocketPortRangeExhaustedException(host="127.0.0.1")',
        "no port of 10000:20000 is free for its serial console",
    ),
    "another": ('raise exception.ImageUnacceptable(image_id="7", reason="it is\\nbroken")', "Image 7 is unacceptable: it is broken"),
}


@pytest.mark.parametrize(("raising", "told"), FAULTS.values(), ids=FAULTS)
def test_reason_is_one_line(tmp_path, raising, told):
    code = f"""
    try:
        try:
            {raising}
        except Exception as error:
            raise exception.ImageUnacceptable(image_id="6", reason=f"several lines:\\n{{error}}\\nStdout: ''") from error
    except Exception as error:
        wrapped = guest_faults.reason(error)
    try:
        {raising}
    except Exception as error:
        tell([wrapped, guest_faults.reason(error)])
    """
    wrapped, bare = inside(PRELUDE + code, str(tmp_path))
    assert bare.startswith(told)
    assert "\n" not in wrapped + bare
    assert len(bare) < 200
    if "broken" not in told:
        assert wrapped == bare


SPAWN = """
    from unittest import mock
    import nova.virt.libvirt
    from nova.virt.libvirt import driver
    from atoll.services.patches.nova import guest_driver

    made = guest_driver.GuestDriver(None)

    def failure(error, free=10**12):
        with mock.patch.object(driver.LibvirtDriver, "spawn", side_effect=error) as spawn, \\
             mock.patch.object(guest_faults.shutil, "disk_usage", return_value=mock.Mock(free=free)):
            try:
                made.spawn(None, mock.Mock(uuid="6e3e"), None, [], None, {})
            except Exception as raised:
                return [type(raised).__name__, str(raised), spawn.call_count]

    tell([
        failure(ValueError("two\\nlines")),
        failure(None, 10**7),
        failure(exception.InstanceNotFound(instance_id="6e3e")),
        failure(None),
    ])
"""


def test_driver_starts_no_guest_on_a_full_disk_and_says_why_others_failed(tmp_path):
    failed, full, deleted, started = inside(PRELUDE + SPAWN, str(tmp_path))
    assert failed == ["BuildAbortException", "Build of instance 6e3e aborted: two lines", 1]
    assert full[0] == "BuildAbortException"
    assert full[1].startswith("Build of instance 6e3e aborted: the disk is full: 10 MB free in ")
    assert full[2] == 0, "no guest may be started"
    assert deleted[0] == "InstanceNotFound"
    assert started is None
