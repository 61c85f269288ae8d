import gzip
import lzma
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.guest import modules

DEP = """\
kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio_ring.ko.xz:
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/net/net_failover.ko.xz:
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko.xz
kernel/fs/ntfs3/ntfs3.ko.xz:
"""


@pytest.fixture
def directory(tmp_path) -> Path:
    """Write the modules of a kernel, and return their directory."""
    (tmp_path / "modules.dep").write_text(DEP)
    for path in modules.parse(DEP):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(lzma.compress(f"module {path}".encode()))
    return tmp_path


def test_names():
    assert modules.name("kernel/drivers/char/hw_random/virtio-rng.ko.xz") == "virtio_rng"
    assert modules.name("kernel/net/8021q/8021q.ko") == "8021q"


def test_each_module_comes_after_what_it_needs():
    needs = modules.parse(DEP)
    found = modules.closure(needs, ["virtio_net", "virtio_rng", "e1000"])
    assert [modules.name(path) for path in found] == ["net_failover", "virtio_ring", "virtio", "virtio_net", "virtio_rng"]


def test_modules_that_need_each_other_are_listed_once():
    needs = {"a.ko": ("b.ko",), "b.ko": ("a.ko",)}
    assert sorted(modules.closure(needs, ["a"])) == ["a.ko", "b.ko"]


def test_choice_leaves_out_what_no_guest_wants(directory):
    names = {modules.name(path) for path in modules.choose(directory)}
    assert {"virtio_pci", "virtio_blk", "virtio_net", "virtio_rng"} < names
    assert "ntfs3" not in names


def test_built_in_modules_are_considered_present(directory):
    text = "".join(line for line in DEP.splitlines(keepends=True) if "virtio_blk" not in line)
    (directory / "modules.dep").write_text(text)
    with pytest.raises(AtollError, match="has no virtio_blk") as caught:
        modules.choose(directory)
    assert caught.value.kind.code == "image.kernel"
    (directory / "modules.builtin").write_text("kernel/drivers/block/virtio_blk.ko\n")
    assert "virtio_blk" not in {modules.name(path) for path in modules.choose(directory)}


def test_a_directory_that_holds_no_modules(tmp_path):
    with pytest.raises(AtollError, match="holds no kernel modules") as caught:
        modules.choose(tmp_path)
    assert "depmod" in (caught.value.hint or "")


def test_modules_are_copied_unpacked(directory, tmp_path):
    plain, packed = "kernel/plain.ko", "kernel/packed.ko.gz"
    (directory / plain).write_bytes(b"plain")
    (directory / packed).write_bytes(gzip.compress(b"packed"))
    target = tmp_path / "target"
    modules.copy(directory, [plain, packed, "kernel/drivers/virtio/virtio.ko.xz"], target)
    assert (target / plain).read_bytes() == b"plain"
    assert (target / "kernel/packed.ko").read_bytes() == b"packed"
    assert (target / "kernel/drivers/virtio/virtio.ko").read_bytes() == b"module kernel/drivers/virtio/virtio.ko.xz"


def test_a_broken_module_is_named(directory, tmp_path):
    (directory / "kernel/broken.ko.xz").write_bytes(b"broken")
    with pytest.raises(AtollError, match=r"broken\.ko\.xz can't be read"):
        modules.copy(directory, ["kernel/broken.ko.xz"], tmp_path / "target")
