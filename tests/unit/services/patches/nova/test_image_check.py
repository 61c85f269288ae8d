"""Truncated images, with upstream's real code and the real qemu-img."""

import shutil
import subprocess

import pytest
from upstream import inside

pytest.importorskip("libvirt")

CONVERT = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from unittest import mock
    from nova import exception
    from nova.virt import images
    from atoll.services.patches.nova import guest_faults
    from atoll.services.patches.nova import image_check

    with mock.patch.object(images, "_convert_image", lambda source, dest, *_, **__: tell_done.append(source)):
        tell_done = []
        if sys.argv[1] == "ours":
            image_check.install()
        for image_format, source in (pair.split("=") for pair in sys.argv[2:]):
            try:
                try:
                    images.convert_image(source, "/nowhere", image_format, "raw")
                except exception.ImageUnacceptable as error:  # as fetch_to_raw does
                    raise exception.ImageUnacceptable(image_id="7", reason=f"Unable to convert image to raw: {error}")
            except exception.ImageUnacceptable as error:
                tell_done.append(guest_faults.reason(error))
    tell(tell_done)
"""


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed")
def test_image_that_was_cut_short_is_not_converted(tmp_path):
    whole, short, raw = (tmp_path / name for name in ("whole", "short", "raw"))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", whole, "8M"], check=True)
    short.write_bytes(whole.read_bytes()[:500_000])
    raw.write_bytes(b"anything")
    found = inside(CONVERT, "ours", f"qcow2={whole}", f"qcow2={short}", f"raw={raw}", f"luks={raw}")
    assert found[0] == str(whole)
    assert found[1].startswith("the image is broken, or was cut short: qemu-img: ")
    assert len(found[1]) < 150
    assert found[2:] == [str(raw), str(raw)], "an image that can't be checked must be converted"


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed")
def test_upstream_converts_an_image_that_was_cut_short(tmp_path):
    """If this fails, patches/nova/image_check.py can go."""
    whole, short = tmp_path / "whole", tmp_path / "short"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", whole, "8M"], check=True)
    short.write_bytes(whole.read_bytes()[:500_000])
    assert inside(CONVERT, "upstream", f"qcow2={short}") == [str(short)]
