"""The cache of launch images: bounded, least recently used first, and whole after a crash at any point."""

import errno
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_machines import quiet

from atoll.cloudlet import base, image
from atoll.cloudlet import cache as cache_module
from atoll.cloudlet.cache import LaunchCache, occupied
from atoll.errors import AtollError

SIZE = 100_000  # bytes


def put(cache: LaunchCache, directory: Path, content: bytes) -> bytes:
    """Put an image of about 100 kB into the cache, and return its digest."""
    directory.mkdir(exist_ok=True)
    source = directory / "source"
    source.write_bytes((content * SIZE)[:SIZE])
    made = directory / "made"
    digest = base.make_base({"disk": source}, made, "", "", quiet).digest
    os.utime(made / "image", ns=(time.time_ns(),) * 2)
    made.rename(cache.path(digest))
    return digest


@pytest.fixture
def one(tmp_path) -> int:
    """Return the bytes of an image on this file system."""
    found = LaunchCache(tmp_path / "sizes", 1 << 30)
    return occupied(found.path(put(found, tmp_path / "made", b"size")))


def test_the_least_recently_used_goes_first(tmp_path, one):
    cache = LaunchCache(tmp_path / "cache", 3 * one)
    first, second, third = (put(cache, tmp_path / "made", word) for word in (b"1", b"2", b"3"))
    with cache.held(first) as path:
        assert path == cache.path(first)
    assert cache.digests() == [second, third, first]
    assert cache.make_room(one) == [second]
    assert cache.digests() == [third, first]
    assert cache.make_room(one) == []
    assert cache.make_room(3 * one) == [third, first]
    assert cache.size() == 0


def test_names_of_the_callers_own(tmp_path, one):
    cache = LaunchCache(tmp_path / "cache", 3 * one, by_content=False)
    digest, name = put(cache, tmp_path / "made", b"1"), b"n" * 32
    cache.path(digest).rename(cache.path(name))
    with cache.held(name) as path:
        assert path == cache.path(name)
    with cache.held(digest) as path:
        assert path is None
    with pytest.raises(AtollError, match="does not hold the image of its name"), LaunchCache(tmp_path / "cache", 3 * one).held(name):
        pass


def test_images_in_use_stay(tmp_path, one):
    cache = LaunchCache(tmp_path / "cache", 2 * one)
    first, second = (put(cache, tmp_path / "made", word) for word in (b"1", b"2"))
    with cache.held(first), cache.held(first):
        assert cache.make_room(one) == [second]
        with pytest.raises(AtollError, match="in use") as caught:
            cache.make_room(2 * one)
        assert caught.value.kind.code == "state.space"
    assert cache.make_room(2 * one) == [first]


def test_what_never_fits_deletes_nothing(tmp_path, one):
    cache = LaunchCache(tmp_path / "cache", 2 * one)
    digest = put(cache, tmp_path / "made", b"1")
    with pytest.raises(AtollError, match="does not fit"):
        cache.make_room(2 * one + 1)
    assert cache.digests() == [digest]


def test_missing_and_wrong_images(tmp_path):
    cache = LaunchCache(tmp_path / "cache", 1 << 30)
    with cache.held(b"m" * 32) as path:
        assert path is None
    digest = put(cache, tmp_path / "made", b"1")
    cache.path(digest).rename(cache.path(b"w" * 32))
    with pytest.raises(AtollError, match="does not hold the image of its name"), cache.held(b"w" * 32):
        pass


@pytest.mark.parametrize("kind", ["partial", "new"])
def test_partial_images_go_before_whole_ones_unless_a_command_makes_them(tmp_path, one, kind):
    cache = LaunchCache(tmp_path / "cache", 2 * one)
    digest = put(cache, tmp_path / "made", b"1")
    stale = tmp_path / "cache" / f".{'a' * 64}.{kind}"
    stale.mkdir()
    (stale / "disk").write_bytes(b"x" * SIZE)
    assert cache.make_room(one // 2) == []
    assert not stale.exists()
    assert cache.digests() == [digest]


class Crash(BaseException):
    """The end of the process."""


@settings(max_examples=25)
@given(at=st.integers(0, 8), before=st.booleans())
def test_a_crash_leaves_whole_images_or_none(tmp_path_factory, at, before):
    """The process ends before or after one of the renames and deletions of an eviction."""
    directory = tmp_path_factory.mktemp("crash")
    cache = LaunchCache(directory / "cache", 1 << 30)
    digests = [put(cache, directory / "made", word) for word in (b"1", b"2")]
    calls = iter(range(at, -1, -1))

    def crashing(function):
        def call(*arguments, **options):
            last = next(calls, None) == 0
            if last and before:
                raise Crash
            found = function(*arguments, **options)
            if last:
                raise Crash
            return found

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((Path, "rename"), (os, "unlink"), (os, "rmdir"), (cache_module, "flush")):
            patch.setattr(module, name, crashing(getattr(module, name)))
        with suppress(Crash):
            LaunchCache(directory / "cache", 0).make_room(0)
    again = LaunchCache(directory / "cache", 1 << 30)
    for digest in again.digests():
        with image.opened(again.path(digest)) as opened:
            base.check_content(opened, quiet)
    assert set(again.digests()) <= set(digests)
    again.make_room(0)
    assert [path.name for path in (directory / "cache").iterdir() if path.name.startswith(".")] == []
    shutil.rmtree(directory)


def test_directory_that_cannot_be_made(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(cache_module, "make_directory", refuse)
    with pytest.raises(AtollError, match="read-only"):
        LaunchCache(tmp_path / "cache", 1)
