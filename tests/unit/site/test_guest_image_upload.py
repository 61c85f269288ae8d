import hashlib
from pathlib import Path

import pytest
from keystoneauth1.exceptions import ConnectFailure

from atoll.errors import AtollError
from atoll.site.guest_image import GuestImages, Uploaded


class Settings:
    site = "paris"

    def url(self, service: str, path: str) -> str:
        return f"http://paris/{service}{path}"


class Answer:
    def __init__(self, body: object) -> None:
        self._body = body

    def json(self) -> object:
        return self._body


class Glance:
    """A double of a keystoneauth session to a Glance that holds `images`."""

    def __init__(self) -> None:
        self.images: list[dict[str, str]] = []
        self.made: list[dict[str, object]] = []
        self.content = b""
        self.deleted: list[str] = []
        self.broken = False

    def get(self, url, params):
        assert (url, params["status"]) == ("http://paris/image/v2/images", "active")
        return Answer({"images": [image for image in self.images if image["name"] == params["name"]]})

    def post(self, _url, json):
        self.made.append(json)
        return Answer({"id": "new"})

    def put(self, url, data, headers):
        assert url == "http://paris/image/v2/images/new/file"
        assert headers["Content-Type"] == "application/octet-stream"
        if self.broken:
            raise ConnectFailure("no route\nto host")
        self.content = data.read()

    def delete(self, url, raise_exc):
        assert not raise_exc
        self.deleted.append(url)


@pytest.fixture
def glance() -> Glance:
    return Glance()


@pytest.fixture
def file(tmp_path) -> Path:
    made: Path = tmp_path / "guest.img"
    made.write_bytes(b"disk")
    return made


def upload(glance: Glance, file: Path) -> Uploaded:
    return GuestImages(Settings(), glance).upload(file, "guest")


def there(content: bytes) -> dict[str, str]:
    return {"id": "old", "name": "guest", "os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(content).hexdigest()}


def test_an_image_is_uploaded(glance, file):
    assert upload(glance, file) == Uploaded("new", made=True)
    assert glance.content == b"disk"
    (fields,) = glance.made
    assert fields | {"min_ram": 0} == {
        "name": "guest", "disk_format": "raw", "container_format": "bare", "visibility": "public", "min_ram": 0,
    }  # fmt: skip


def test_one_of_the_same_content_is_left_alone(glance, file):
    glance.images = [there(b"another"), there(b"disk")]
    assert upload(glance, file) == Uploaded("old", made=False)
    assert glance.made == []


def test_one_of_another_content_is_in_the_way(glance, file):
    glance.images = [there(b"another")]
    with pytest.raises(AtollError, match="paris has an image guest with another content") as caught:
        upload(glance, file)
    assert caught.value.kind.code == "image.exists"
    assert "`atoll openstack --site paris image delete old`" in (caught.value.hint or "")
    assert glance.made == []


def test_an_upload_that_fails_leaves_nothing(glance, file):
    glance.broken = True
    with pytest.raises(AtollError, match=r"paris does not accept the image: no route$") as caught:
        upload(glance, file)
    assert caught.value.kind.code == "site.not_running"
    assert glance.deleted == ["http://paris/image/v2/images/new"]
