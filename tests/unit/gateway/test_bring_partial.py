"""Files that arrive in chunks, in any order, across restarts of the process."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.gateway.bring.partial_file import PartialFile

DATA = bytes(range(256)) * 5 + b"end"
CHUNK = 128


def receive(partial: PartialFile, index: int) -> None:
    offset, length = partial.span(index)
    partial.write(offset, DATA[offset : offset + length])
    partial.add(index, hashlib.sha256(DATA[offset : offset + length]).hexdigest())


def opened(path: Path, identity: str = "sha512:1") -> PartialFile:
    return PartialFile(path, len(DATA), identity, CHUNK)


@given(order=st.permutations(range(11)), restarts=st.sets(st.integers(0, 10)))
def test_any_order_and_any_restarts_give_the_file(order: list[int], restarts: set[int]):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "image"
        partial = opened(path)
        for done, index in enumerate(order):
            if done in restarts:
                partial.close()
                partial = opened(path)
            assert set(partial.missing()) == set(order[done:])
            receive(partial, index)
        assert partial.have == len(DATA)
        assert b"".join(map(partial.read, range(partial.count))) == DATA
        partial.close()


def test_file_that_was_begun_for_another_image_is_begun_again(tmp_path: Path):
    partial = opened(tmp_path / "image")
    receive(partial, 3)
    partial.close()
    other = opened(tmp_path / "image", "sha512:2")
    assert other.have == 0
    other.close()


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xff", b"[1]\n0 x\n"])
def test_a_file_that_is_not_a_journal_is_ignored(tmp_path: Path, damage: bytes):
    partial = opened(tmp_path / "image")
    receive(partial, 3)
    partial.close()
    (tmp_path / "image.journal").write_bytes(damage)
    again = opened(tmp_path / "image")
    assert again.missing() == list(range(11))
    again.close()


def test_torn_last_line_is_ignored(tmp_path: Path):
    partial = opened(tmp_path / "image")
    receive(partial, 3)
    receive(partial, 4)
    partial.close()
    journal = tmp_path / "image.journal"
    journal.write_bytes(journal.read_bytes()[:-9])
    again = opened(tmp_path / "image")
    assert 3 in again
    assert 4 not in again
    again.close()


def test_a_journal_without_its_file_is_ignored(tmp_path: Path):
    partial = opened(tmp_path / "image")
    receive(partial, 3)
    partial.close()
    (tmp_path / "image").unlink()
    again = opened(tmp_path / "image")
    assert again.have == 0
    again.close()


def test_damaged_chunks_are_found(tmp_path: Path):
    partial = opened(tmp_path / "image")
    for index in (0, 3, 10):
        receive(partial, index)
    partial.write(3 * CHUNK, b"?")
    assert partial.drop_damaged() == 1
    assert 3 not in partial
    partial.close()
    again = opened(tmp_path / "image")
    assert again.have == CHUNK + 3
    again.remove()
    assert list(tmp_path.iterdir()) == []
    again.close()
