"""Flushes of guests' disks before the guest starts, with upstream's real class of guests."""

from upstream import inside

LAUNCH = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import tempfile
    from pathlib import Path
    from unittest import mock
    import nova.conf
    from nova.virt.libvirt import guest
    from atoll.services.patches.nova import disk_flush

    instances = Path(tempfile.mkdtemp()) / "instances"
    for name in ("ours/disk", "ours/disk.config", "other/disk", "_base/image"):
        (instances / name).parent.mkdir(parents=True, exist_ok=True)
        (instances / name).write_text(name)
    nova.conf.CONF.set_override("instances_path", str(instances))
    done = []
    disk_flush.flush = lambda path: done.append(str(Path(path).relative_to(instances.parent)))
    if sys.argv[1] == "ours":
        disk_flush.install()
    domain = mock.Mock()
    domain.UUIDString.return_value = sys.argv[2]
    domain.createWithFlags.side_effect = lambda flags: done.append(f"launch {flags}")
    guest.Guest(domain).launch()
    tell(done)
"""


def test_a_guests_files_and_the_images_below_them_are_flushed_before_it_starts():
    done = inside(LAUNCH, "ours", "ours")
    assert sorted(done[:-1]) == sorted(
        ["instances/ours/disk", "instances/ours/disk.config", "instances/ours", "instances/_base/image", "instances/_base", "instances"]
    )
    assert done[-1] == "launch 0"


def test_a_guest_without_files_starts():
    assert inside(LAUNCH, "ours", "from a volume")[-1] == "launch 0"


def test_upstream_still_needs_it():
    assert inside(LAUNCH, "upstream", "ours") == ["launch 0"]
