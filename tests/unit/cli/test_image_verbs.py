import json
import stat
from pathlib import Path

import pytest

import atoll.guest
from atoll.guest import Built, Given
from atoll.runtime import client
from atoll.site import guest_image, wan
from atoll.site.guest_image import Uploaded


@pytest.fixture
def built(tmp_path, monkeypatch) -> list[Given | None]:
    """Put an image into the cache, and return the list of the kernels that it was requested with."""
    asked: list[Given | None] = []
    (tmp_path / "cached.img").write_bytes(b"disk")

    def build(_cache: Path, given: Given | None, say):
        asked.append(given)
        say("fetching a kernel")
        return Built(tmp_path / "cached.img", "linux-image", made=False)

    monkeypatch.setattr(atoll.guest, "build", build)
    return asked


@pytest.fixture
def glance(monkeypatch) -> list[tuple[str, str, str]]:
    """Simulate a running cloud whose Glance is empty; return the list of uploads: site, file and name."""
    uploaded: list[tuple[str, str, str]] = []

    class GuestImages:
        def __init__(self, settings):
            self.site = settings.site

        def upload(self, file, name):
            uploaded.append((self.site, file.name, name))
            return Uploaded("8c0a", made=len(uploaded) == 1)

    monkeypatch.setattr(client, "connect", lambda _root: object())
    monkeypatch.setattr(wan, "enter", lambda *_arguments: None)
    monkeypatch.setattr(guest_image, "GuestImages", GuestImages)
    return uploaded


def test_without_a_file_it_prints_where_the_image_is(atoll, built, tmp_path):
    ran = atoll("image", "build")
    assert (ran.code, ran.out) == (0, f"{tmp_path}/cached.img\n")
    assert ran.err == "image: fetching a kernel …\n"
    assert built == [None]


def test_with_a_file_it_copies_the_image(atoll, built, tmp_path):
    target = tmp_path / "guest.img"
    assert atoll("image", "build", str(target)).out == f"{target}\n"
    assert target.read_bytes() == b"disk"
    assert not stat.S_IMODE(target.stat().st_mode) & 0o077, "with an unknown umask, the file must be for its owner alone"


def test_file_is_found_from_here(atoll, built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert atoll("image", "build", "guest.img").out == f"{Path.cwd()}/guest.img\n"


def test_given_kernel(atoll, built, tmp_path):
    assert atoll("image", "build", "--kernel", str(tmp_path / "cached.img"), "--modules", str(tmp_path)).code == 0
    assert built == [Given(tmp_path / "cached.img", tmp_path)]


@pytest.mark.parametrize(
    ("words", "err"),
    [
        (["--kernel", "/dev/null"], "a kernel and its modules belong together: expected both --kernel and --modules, or neither"),
        (["--modules", "/"], "a kernel and its modules belong together"),
        (["--site", "paris"], "--site names the site to upload to: expected --upload NAME too"),
        (["--kernel", "/nowhere"], "Path '/nowhere' does not exist"),
    ],
)
def test_what_makes_no_sense(atoll, built, words, err):
    ran = atoll("image", "build", *words)
    assert ran.code == 2
    assert err in ran.err
    assert built == []


def test_upload_needs_a_cloud_before_anything_is_made(atoll, built):
    ran = atoll("image", "build", "--upload", "guest")
    assert ran.code == 1
    assert "there is no cloud" in ran.err
    assert built == []


def test_upload_needs_a_cloud_that_runs(atoll, built, cloud):
    ran = atoll("image", "build", "--upload", "guest", "--site", "lyon")
    assert (ran.code, built) == (1, [])
    assert ran.err.startswith("error: lyon is not running\nhint: bring it up with ")


def test_upload(atoll, built, cloud, glance, tmp_path):
    assert atoll("image", "build", "--upload", "guest").out == f"{tmp_path}/cached.img\nuploaded to paris: guest  8c0a\n"
    assert atoll("image", "build", "--upload", "guest", "--site", "lyon").out.endswith("exists already at lyon: guest  8c0a\n")
    assert glance == [("paris", "cached.img", "guest"), ("lyon", "cached.img", "guest")]


def test_json(atoll, built, cloud, glance, tmp_path):
    report = {"file": f"{tmp_path}/cached.img", "kernel": "linux-image", "made": False}
    assert json.loads(atoll("image", "build", "--json").out) == report
    uploaded = {"id": "8c0a", "name": "guest", "site": "paris", "uploaded": True}
    assert json.loads(atoll("image", "build", "--json", "--upload", "guest").out) == report | {"image": uploaded}
