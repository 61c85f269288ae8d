"""Residues between the states of a server's disk, with the real qemu-img."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from atoll.cloudlet import handoff
from atoll.cloudlet.base import make_base
from atoll.cloudlet.keys import SigningKey
from atoll.errors import AtollError

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed")

MIB = 1 << 20


class Sites:
    """The files of a source and of a destination."""

    def __init__(self, directory: Path) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        self.key, self.name = directory / "key.pem", SigningKey(key).trusted.name
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.images, self.here, self.there = (directory / name for name in ("_base", "here", "there"))
        self.images.mkdir()
        self.content = bytearray(os.urandom(MIB) + bytes(7 * MIB))
        self.image = self.images / ("a" * 40)
        self.image.write_bytes(self.content)
        self.disk, self.overlay = directory / "disk", directory / "residue"
        qemu("create", "-q", "-f", "qcow2", "-b", str(self.image), "-F", "raw", str(self.disk), "8M")

    def write(self, offset: int, data: bytes) -> None:
        """Write to the server's disk, as its guest does."""
        self.content[offset : offset + len(data)] = data
        source = self.disk.with_name("content")
        source.write_bytes(self.content)
        qemu("convert", "-f", "raw", "-O", "qcow2", "-B", str(self.image), "-F", "raw", str(source), str(self.disk))

    def residue(self, base: str, **more: object) -> dict:
        task = {"do": "residue", "states": str(self.here), "disk": str(self.disk), "images": str(self.images), "live": True, "base": base}
        return handoff.run(task | {"target": str(self.overlay), "key": str(self.key), "level": 2} | more)

    def apply(self, base: str, **more: object) -> str:
        task = {"do": "apply", "states": str(self.there), "base": base, "overlay": str(self.overlay), "key": self.name, "most": 8 * MIB}
        return handoff.run(task | more)["state"]

    def begin(self, states: Path, **more: object) -> str:
        return handoff.run({"do": "begin", "states": str(states), "disk": str(self.image)} | more)["state"]


def qemu(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


@pytest.fixture
def sites(tmp_path) -> Sites:
    return Sites(tmp_path)


def test_disk_arrives_bit_by_bit_and_each_residue_holds_the_changes_alone(sites):
    base = sites.begin(sites.here)
    assert sites.begin(sites.there, digest=base) == base
    sites.write(3 * MIB, os.urandom(64 << 10))
    first = sites.residue(base)
    assert sites.apply(base) == first["state"]
    sites.write(5 * MIB, os.urandom(8 << 10))
    second = sites.residue(first["state"])
    assert sites.apply(first["state"]) == second["state"]
    assert (sites.there / second["state"] / "disk").read_bytes() == sites.content
    assert (first["changed"], second["changed"]) == (64 << 10, 8 << 10)
    assert second["length"] < first["length"] < 80 << 10
    third = sites.residue(second["state"])
    assert (third["state"], third["changed"]) == (second["state"], 0)
    assert sites.apply(second["state"]) == second["state"]


def memory_files(directory: Path, content: bytes) -> dict[str, object]:
    """Return the fields of a task with the memory of a guest."""
    memory, machine = directory / "memory", directory / "hardware"
    memory.write_bytes(content)
    machine.write_text(json.dumps({"cpu": "EPYC", "machine": "pc-i440fx-10.0"}))
    return {"memory": str(memory), "hardware": str(machine)}


def test_memory_arrives_with_the_disk_and_only_its_changes_are_sent_again(sites, tmp_path):
    base = sites.begin(sites.here)
    sites.begin(sites.there)
    guess = bytearray(os.urandom(4 * MIB))
    first = sites.residue(base, **memory_files(tmp_path, guess))
    assert sites.apply(base, most_memory=5 * MIB) == first["state"]
    guess[MIB : MIB + 8192] = os.urandom(8192)
    last = sites.residue(first["state"], live=False, **memory_files(tmp_path, guess))
    assert sites.apply(first["state"], most_memory=5 * MIB) == last["state"]
    assert last["length"] < 20_000
    assert (sites.there / last["state"] / "memory").read_bytes() == guess
    assert json.loads((sites.there / last["state"] / "hardware").read_text())["cpu"] == "EPYC"
    without = sites.residue(first["state"])
    assert sites.apply(first["state"], most_memory=5 * MIB) == without["state"], "a server that was stopped has no memory"


@pytest.mark.parametrize("most", [0, 3 * MIB])
def test_memory_that_is_not_expected_or_too_large_is_refused(sites, tmp_path, most):
    base = sites.begin(sites.here)
    sites.begin(sites.there)
    sites.residue(base, **memory_files(tmp_path, os.urandom(4 * MIB)))
    with pytest.raises(AtollError, match="expected the disk of a server, of at most 8 MiB, and"):
        sites.apply(base, most_memory=most)
    assert [path.name for path in sites.there.iterdir()] == [base]


def test_hand_off_begins_with_the_launch_image_that_both_sites_have(sites, tmp_path):
    parts = {name: Path(str(path)) for name, path in memory_files(tmp_path, os.urandom(MIB)).items()}
    cache, name, other = tmp_path / "cache", "a" * 64, "b" * 64
    cache.mkdir()
    digest = make_base({"disk": sites.image, **parts}, cache / name, "EPYC", "pc-i440fx-10.0", lambda *_: None).digest.hex()
    ask = {"do": "launches", "cache": str(cache)}
    assert [handoff.run(ask | {"names": names})["launches"] for names in ([name], [other], [])] == [[digest], [], []]
    task = {"do": "launch", "cache": str(cache), "digest": digest}
    assert handoff.run(task | {"states": str(sites.there), "names": [other]}) == {"state": ""}, "the user may not have it there"
    assert handoff.run(task | {"states": str(sites.there), "names": [name]}) == {"state": digest}
    assert handoff.run(task | {"states": str(sites.here)}) == {"state": digest}, "the source has the server from it"
    made = sites.residue(digest, **memory_files(tmp_path, (cache / name / "memory").read_bytes()))
    assert made["changed"] == 0
    assert sites.apply(digest, most_memory=2 * MIB) == made["state"]
    assert handoff.run(task | {"digest": "0" * 64, "states": str(sites.here)}) == {"state": ""}


def test_state_of_a_stopped_server_is_named_but_not_made(sites):
    base = sites.begin(sites.here)
    sites.begin(sites.there)
    sites.write(MIB, b"last words")
    made = sites.residue(base, live=False)
    assert [path.name for path in sites.here.iterdir()] == [base]
    assert sites.apply(base) == made["state"]
    sites.write(2 * MIB, b"it returned, and wrote more")
    later = sites.residue(base)
    assert sites.apply(base) == later["state"], "both sites still have the base"


def test_disk_without_a_common_image_is_sent_whole(sites):
    empty = handoff.run({"do": "empty", "states": str(sites.here)})
    assert handoff.run({"do": "empty", "states": str(sites.there)}) == empty
    made = sites.residue(empty["state"])
    assert sites.apply(empty["state"]) == made["state"]
    assert (sites.there / made["state"] / "disk").read_bytes() == sites.content


def test_image_of_another_content_is_not_used(sites):
    assert sites.begin(sites.there, digest="0" * 64) == ""
    assert list(sites.there.iterdir()) == []


def test_residue_of_a_stranger_or_of_another_state_is_refused(sites):
    base = sites.begin(sites.here)
    sites.begin(sites.there)
    sites.write(0, b"x")
    sites.residue(base)
    empty = handoff.run({"do": "empty", "states": str(sites.there)})["state"]
    for more, code in (
        ({"key": "ed25519:" + "1" * 64}, "cloudlet.key"),
        ({"key": SigningKey(ed25519.Ed25519PrivateKey.generate()).trusted.name}, "cloudlet.untrusted"),
        ({"base": empty}, "cloudlet.base"),
        ({"most": MIB}, "cloudlet.invalid"),
    ):
        with pytest.raises(AtollError) as refused:
            sites.apply(**({"base": base} | more))
        assert refused.value.kind.code in {code, "cloudlet.untrusted"}
    data = bytearray(sites.overlay.read_bytes())
    data[-3] ^= 1
    sites.overlay.write_bytes(data)
    with pytest.raises(AtollError):
        sites.apply(base)
    assert {path.name for path in sites.there.iterdir() if not path.name.startswith(".")} == {base, empty}


@pytest.mark.parametrize("header", ["foreign", "data-file"])
def test_header_that_names_a_file_of_the_machine_is_refused(sites, tmp_path, header):
    """The guest's QEMU can write the header."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret".ljust(MIB, b"x"))
    sites.disk.unlink()
    if header == "foreign":
        qemu("create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(sites.disk), "8M")
    else:
        qemu("create", "-q", "-f", "qcow2", "-o", f"data_file={secret},data_file_raw=on", str(sites.disk), "8M")
    base = sites.begin(sites.here)
    with pytest.raises(AtollError, match="its header names"):
        sites.residue(base)
    assert not sites.overlay.exists()


def test_program_answers_in_json(sites):
    task = {"do": "begin", "states": str(sites.here), "disk": str(sites.image)}
    command = [sys.executable, "-m", "atoll.cloudlet.handoff"]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"state": sites.begin(sites.here)}
    failed = subprocess.run(command, input=json.dumps(task | {"disk": "/nowhere"}), capture_output=True, text=True, check=True)
    assert json.loads(failed.stdout)["error"]["message"] == "/nowhere: no such file or directory"
