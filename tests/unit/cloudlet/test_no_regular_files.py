"""Pipes and devices in place of files: refused at once, instead of waited for."""

import os
from io import BytesIO
from pathlib import Path

import pytest
from small_machines import quiet

from atoll.cloudlet import base, image, keys, scan, source
from atoll.errors import AtollError


def open_image(path):
    with image.opened(path):
        pass


def open_source(path):
    with source.opened(str(path), BytesIO()):
        pass


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("read", [base.part_size, keys.read_trusted_key, keys.read_signing_key, open_source])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_no_regular_file(pipe, read, kind):
    with pytest.raises(AtollError, match="is not a regular file") as caught:
        read(pipe if kind == "pipe" else Path("/dev/zero"))
    assert caught.value.kind.code == "cloudlet.unusable"


@pytest.mark.parametrize("name", ["image", "disk", "disk.pages"])
def test_image_with_a_pipe(machine, pipe, name):
    (machine.base / name).unlink()
    pipe.rename(machine.base / name)
    with pytest.raises(AtollError, match=f"{name} is not a regular file"):
        open_image(machine.base)


def test_base_of_a_pipe_leaves_nothing(pipe, tmp_path):
    with pytest.raises(AtollError, match="is not a regular file"):
        base.make_base({"disk": pipe}, tmp_path / "new", "", "", quiet)
    assert not (tmp_path / "new").exists()


def test_file_whose_status_has_no_size_is_compared_whole(machine, monkeypatch):
    """A block device has the size 0 in its status, and all its pages count."""
    real = os.fstat

    def without_size(descriptor):
        found = list(real(descriptor))
        found[6] = 0
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", without_size)
    found = scan.split("disk", machine.parts["disk"], machine.base / "disk", 100)
    assert found[-1].ranges[-1][1] == 40
