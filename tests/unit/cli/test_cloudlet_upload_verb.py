"""`atoll cloudlet upload`: its options, its output, and errors of the client in one line."""

import hashlib
import json
import random
from io import BytesIO
from pathlib import Path
from typing import Any

import openstack
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PAGE = 4096


def answer(body: object = None, status: int = 200) -> requests.Response:
    """Return an answer of Glance, as openstacksdk's proxy does."""
    made = requests.Response()
    made.status_code, made.url, made.reason = status, "http://glance/v2/images", "a reason"
    made.raw = BytesIO(json.dumps(body).encode())
    made.request = requests.Request("PUT", made.url).prepare()
    return made


class Proxy:
    """A double of openstacksdk's image proxy, which returns answers with errors."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.status = 204
        self.cloud: str | None = "unasked"

    def get(self, _path, *, params):
        return answer({"images": [each for each in self.images if all(each.get(name) == value for name, value in params.items())]})

    def post(self, _path, *, json):
        self.images.append({**json, "id": "image-1", "status": "active", "owner": "p"})
        return answer(self.images[-1], 201)

    def put(self, _path, *, data, headers):
        if self.status < 400:
            self.images[-1] |= {"os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(b"".join(data)).hexdigest()}
        return answer(status=self.status)

    def delete(self, _path):
        self.images.pop()
        return answer(status=204)


class Connection:
    def __init__(self, proxy: Proxy, project: str | None = "p") -> None:
        self.image, self.current_project_id = proxy, project


@pytest.fixture
def glance(monkeypatch) -> Proxy:
    proxy = Proxy()

    def connect(cloud):
        proxy.cloud = cloud
        return Connection(proxy)

    monkeypatch.setattr(openstack, "connect", connect)
    return proxy


@pytest.fixture
def files(atoll, tmp_path, monkeypatch) -> Path:
    """Make a base, an overlay and keys in the working directory."""
    monkeypatch.chdir(tmp_path)
    disk = random.Random(1).randbytes(PAGE * 10)
    Path("base.raw").write_bytes(disk)
    Path("app.raw").write_bytes(disk + b"x" * PAGE)
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    Path("key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    Path("public.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert atoll("cloudlet", "base", "base", "--disk", "base.raw").code == 0
    assert atoll("cloudlet", "overlay", "app.overlay", "--base", "base", "--disk", "app.raw", "--key", "key.pem").code == 0
    return tmp_path


UPLOAD = ("cloudlet", "upload", "app.overlay", "--trust", "public.pem")


def test_overlay(atoll, files, glance):
    ran = atoll(
        *UPLOAD, "--name", "app", "--min-ram", "128", "--keep", "paris,lyon", "--visibility", "public", "--os-cloud", "mine", "--json"
    )
    made = json.loads(ran.out)
    assert (made["image"], made["name"], made["uploaded"], glance.cloud) == ("image-1", "app", True, "mine")
    assert made["properties"]["atoll_cloudlet_key"].startswith("ed25519:")
    (found,) = glance.images
    assert (found["min_ram"], found["atoll_keep"], found["visibility"], found["min_disk"]) == (128, "paris,lyon", "public", 1)
    again = atoll(*UPLOAD)
    assert again.out == "image-1  exists already\n"
    assert made["properties"]["atoll_cloudlet_key"] in again.err
    assert "no image that you can use holds the overlay's base" in again.err, "the base was never uploaded"
    assert len(glance.images) == 1


def test_errors_are_one_line_and_leave_nothing(atoll, files, glance, monkeypatch):
    glance.status = 413
    ran = atoll(*UPLOAD)
    assert (ran.code, ran.err.splitlines()[0].startswith("error: the cloud refused the image: ")) == (1, True)
    assert glance.images == []
    monkeypatch.setattr(openstack, "connect", lambda cloud: Connection(glance, None))
    assert "the credentials name no project" in atoll(*UPLOAD).err


def test_cloud_that_is_unknown(atoll, files, monkeypatch):
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(files / "none.yaml"))
    ran = atoll(*UPLOAD, "--os-cloud", "nowhere")
    assert (ran.code, "nowhere" in ran.err.splitlines()[0]) == (1, True)


@pytest.mark.parametrize("words", [("cloudlet", "upload", "app.overlay"), ("cloudlet", "upload", "base", "--trust", "public.pem")])
def test_key_goes_with_an_overlay_alone(atoll, files, glance, words):
    ran = atoll(*words)
    assert (ran.code, "a base needs no --trust" in ran.err) == (2, True)
    assert glance.cloud == "unasked"
