"""Servers from overlays: by the commands and Nova's own API, with real guests, and the errors that their users see."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deployment import until
from emulated import MARKS, Emulated, drive, meta_data
from landscape import FLAVOR, PATIENCE_S, Landscape

pytestmark = pytest.mark.long

PASSWORD = "correct-horse"
READS = '#!/bin/sh\necho "mark: $(cat /disk/mark)"\n'


@dataclass
class Made:
    """A base and an overlay, as files and as images of Glance."""

    directory: Path
    base: str
    overlay: str
    key: str


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def upload(cloud, *words: str | Path) -> dict:
    return json.loads(cloud.atoll("exec", "paris", "--", "atoll", "cloudlet", "upload", *words, "--json"))


@pytest.fixture(scope="module")
def made(cloud, paris, image, tmp_path_factory) -> Iterator[Made]:
    """Make a base from the guest image and an overlay from a guest that wrote a file, and upload both at paris."""
    here = tmp_path_factory.mktemp("cloudlet")
    iso = drive(here, meta_data=meta_data("driven"), user_data=MARKS)
    with Emulated(here / "machine", image, "-drive", f"file={iso},if=ide,media=cdrom,readonly=on") as guest:
        guest.await_console("atoll-guest: ready")
        guest.order("system_powerdown")
        guest.await_end()
    openssl("genpkey", "-algorithm", "ed25519", "-out", here / "key.pem")
    openssl("pkey", "-in", here / "key.pem", "-pubout", "-out", here / "public.pem")
    cloud.atoll("cloudlet", "base", here / "base", "--disk", image)
    cloud.atoll(
        "cloudlet", "overlay", here / "overlay", "--base", here / "base", "--disk", here / "machine" / "disk.img", "--key", here / "key.pem"
    )
    base = upload(cloud, here / "base", "--name", "base", "--visibility", "private")
    given = (here / "overlay", "--name", "app", "--trust", here / "public.pem", "--visibility", "public")
    overlay = upload(cloud, *given)
    again = upload(cloud, *given)
    assert (base["uploaded"], overlay["uploaded"], again["uploaded"]) == (True, True, False)
    assert again["image"] == overlay["image"]
    assert overlay["properties"]["atoll_cloudlet_base_image"] == base["image"]
    yield Made(here, base["image"], overlay["image"], overlay["properties"]["atoll_cloudlet_key"])
    for each in (base, overlay):
        paris.api.call("image", "DELETE", f"/v2/images/{each['image']}")


def left(paris: Landscape) -> dict[str, list[str]]:
    """Return the names of files by which a server or an overlay that is being applied is seen."""
    data = paris.settings.data
    places = {"instances": data / "instances", "cloudlet": data / "cloudlet", "work": data / "cloudlet" / "work"}
    found = {name: sorted(each.name for each in path.iterdir()) for name, path in places.items() if path.is_dir()}
    return found | {"partial": sorted(path.name for path in (data / "cloudlet" / "cache").glob(".*"))}


def fault(paris: Landscape, image: str, **more: object) -> str:
    """Boot a server that must fail, and return its fault once it is deleted again."""
    before = left(paris)
    fields = {"name": "doomed", "imageRef": image, "flavorRef": FLAVOR, "networks": "none", **more}
    server = paris.api.expect("compute", "POST", "/servers", {"server": fields})["server"]["id"]
    shown = until(lambda: _ended(paris, server), "the end of the build", PATIENCE_S)
    assert shown["status"] == "ERROR", shown
    assert "private" not in shown["addresses"]
    paris.api.call("compute", "DELETE", f"/servers/{server}")
    until(lambda: paris.api.call("compute", "GET", f"/servers/{server}").status == 404, "deletion", PATIENCE_S)
    assert left(paris) == before
    return re.sub(r".* aborted: ", "", shown["fault"]["message"])


def _ended(paris: Landscape, server: str) -> dict | None:
    shown = paris.api.expect("compute", "GET", f"/servers/{server}")["server"]
    return shown if shown["status"] != "BUILD" else None


def test_server_from_an_overlay_is_an_ordinary_server(paris, made):
    guest = paris.boot("synthesised", image=made.overlay, script=READS)
    assert guest.await_console("mark: .*").group(0).strip() == "mark: made by driven"
    assert guest.show()["image"]["id"] == made.overlay
    guest.act(reboot={"type": "HARD"})
    guest.await_status("ACTIVE")
    guest.act(createImage={"name": "of-synthesised"})
    images = until(
        lambda: paris.api.expect("image", "GET", "/v2/images?name=of-synthesised&status=active")["images"], "the snapshot", PATIENCE_S
    )
    assert [name for name in images[0] if name.startswith("atoll_cloudlet")] == []
    guest.delete()
    twin = paris.boot("twin", image=images[0]["id"], script=READS)
    assert twin.await_console("mark: .*").group(0).strip() == "mark: made by driven"
    twin.delete()
    paris.api.call("image", "DELETE", f"/v2/images/{images[0]['id']}")
    assert left(paris)["work"] == []
    assert left(paris)["partial"] == []


def test_damaged_overlay_ends_in_error(paris, made, tmp_path):
    data = bytearray((made.directory / "overlay").read_bytes())
    data[-100] ^= 1
    image = raw_overlay(paris, bytes(data), made)
    told = fault(paris, image)
    assert re.match(r"the overlay: segment \d+ of the overlay is damaged, at bytes \d+ to \d+", told), told
    paris.api.call("image", "DELETE", f"/v2/images/{image}")


def raw_overlay(paris: Landscape, data: bytes, made: Made, **more: str) -> str:
    """Upload an overlay as anybody could, without its verification."""
    shown = paris.api.expect("image", "GET", f"/v2/images/{made.overlay}")
    properties = {name: shown[name] for name in ("atoll_cloudlet_base", "atoll_cloudlet_key")}
    fields = {"name": "raw", "disk_format": "raw", "container_format": "bare", **properties, **more}
    image = str(paris.api.expect("image", "POST", "/v2/images", fields)["id"])
    assert paris.api.call("image", "PUT", f"/v2/images/{image}/file", data=data).ok
    return image


def test_base_of_another_project_is_not_reached_by_its_digest(cloud, paris, made):
    """The base and the launch image are in the site's cache, and the overlay is public, but the base is private."""
    admin = paris.api
    role = next(each["id"] for each in admin.expect("identity", "GET", "/roles?name=member")["roles"])
    project = admin.expect("identity", "POST", "/projects", {"project": {"name": "other", "domain_id": "default"}})["project"]["id"]
    named = {"name": "stranger", "domain_id": "default", "password": PASSWORD}
    user = admin.expect("identity", "POST", "/users", {"user": named})["user"]["id"]
    admin.expect("identity", "PUT", f"/projects/{project}/users/{user}/roles/{role}")
    paris.api = cloud.api_inside("paris", "stranger", PASSWORD, "other")
    try:
        told = fault(paris, made.overlay)
        assert told.startswith("no site that can be reached has an image that you can use as the overlay's base "), told
        claim = {"name": "claim", "disk_format": "raw", "container_format": "bare"}
        shown = paris.api.expect("image", "GET", f"/v2/images/{made.overlay}")
        image = paris.api.expect("image", "POST", "/v2/images", claim | {"atoll_cloudlet_digest": shown["atoll_cloudlet_base"]})["id"]
        assert paris.api.call("image", "PUT", f"/v2/images/{image}/file", data=b"x" * 8192).ok
        told = fault(paris, made.overlay)
        assert re.match(rf"image {image}: the image's content is the base \w+, but its property names \w+", told), told
        paris.api.call("image", "DELETE", f"/v2/images/{image}")
    finally:
        paris.api = admin
