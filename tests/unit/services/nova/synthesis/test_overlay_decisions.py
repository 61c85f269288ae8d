"""Decisions about images that call themselves overlays and bases: none of their properties gives anybody a right."""

from typing import Any

import pytest

from atoll.services.nova.synthesis import overlays
from atoll.services.nova.synthesis.overlays import OverlayRefusal, file_name, read_bases, read_overlay, trusted_keys

DIGEST = "d" * 64
KEY, SECOND = "ed25519:" + "1" * 64, "p256:02" + "2" * 64


def image(identifier: str = "i", owner: str = "mine", hashed: str = "a" * 128, **properties: object) -> dict[str, Any]:
    found = {"id": identifier, "owner": owner, "status": "active", "size": 5, "is_public": False}
    return {**found, "os_hash_algo": "sha512", "os_hash_value": hashed, "properties": properties}


def overlay(owner: str = "mine", **more: object) -> dict[str, Any]:
    return image("o", owner, "b" * 128, **({overlays.BASE: DIGEST, overlays.KEY: KEY} | more))


def base(identifier: str = "i", owner: str = "mine", hashed: str = "a" * 128, **more: object) -> dict[str, Any]:
    return image(identifier, owner, hashed, **({overlays.DIGEST: DIGEST} | more))


def test_overlay_is_read():
    found = read_overlay(overlay(**{overlays.KEY: f" {KEY} ,{SECOND},"}))
    assert (found.base, found.keys) == (DIGEST, (KEY, SECOND))
    assert found.data.hash == "sha512:" + "b" * 128


@pytest.mark.parametrize("digest", ["", "D" * 64, "../../etc/passwd", "d" * 63, "d" * 64 + "\n", DIGEST + "/x"])
def test_base_that_is_not_a_digest(digest):
    with pytest.raises(OverlayRefusal, match=overlays.BASE):
        read_overlay(overlay(**{overlays.BASE: digest}))


@pytest.mark.parametrize(
    "keys", ["ed25519:1", "-----BEGIN PUBLIC KEY-----", f"{KEY};{SECOND}", "../key.pem", "p256:04" + "1" * 64, KEY + "\n1"]
)
def test_key_that_is_none(keys):
    with pytest.raises(OverlayRefusal, match="expected names of keys") as caught:
        read_overlay(overlay(**{overlays.KEY: keys}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"os_hash_value": None}, {"os_hash_value": "../x"}, {"size": None}, {"size": 0}])
def test_data_without_a_hash_of_glance_are_refused(change):
    with pytest.raises(OverlayRefusal, match="image o has no data"):
        read_overlay(overlay() | change)


def test_bases_of_the_callers_project_come_first_and_others_are_left_out():
    found = read_overlay(overlay())
    images = [
        base("public", "other") | {"is_public": True}, base("shared", "other"), base("mine"), base("queued") | {"status": "queued"},
        base("another", **{overlays.DIGEST: "e" * 64}), base("machine", **{overlays.MACHINE: "m" * 65}),
    ]  # fmt: skip
    assert [each.data.image for each in read_bases(images, found, "mine")] == ["mine", "public", "shared"]


def test_image_without_a_hash_does_not_stand_in_the_way_of_the_base():
    images = [base("broken") | {"os_hash_value": None}, base("real")]
    assert [each.data.image for each in read_bases(images, read_overlay(overlay()), "mine")] == ["real"]


def test_keys_of_the_owner_are_accepted_for_its_project_and_keys_of_public_images_for_all():
    own, other = read_overlay(overlay()), read_overlay(overlay("other"))
    public = read_overlay(overlay("other") | {"is_public": True})
    assert trusted_keys(own, "mine", {}) == (KEY,)
    assert trusted_keys(public, "mine", {}) == (KEY,)
    with pytest.raises(OverlayRefusal, match=r"another project's: name the key that you trust, `--property atoll_cloudlet_trust=KEY`"):
        trusted_keys(other, "mine", {})


def test_caller_names_further_keys():
    other = read_overlay(overlay("other"))
    assert trusted_keys(other, "mine", {overlays.TRUST: SECOND}) == (SECOND,)
    assert trusted_keys(read_overlay(overlay()), "mine", {overlays.TRUST: f"{SECOND},{KEY}"}) == (SECOND, KEY)
    many = ",".join(f"ed25519:{number:064x}" for number in range(20))
    assert len(trusted_keys(other, "mine", {overlays.TRUST: many})) == overlays.MOST_KEYS
    with pytest.raises(OverlayRefusal, match="metadata atoll_cloudlet_trust"):
        trusted_keys(other, "mine", {overlays.TRUST: "all"})


def test_overlay_without_keys_is_refused():
    with pytest.raises(OverlayRefusal, match="no key is trusted"):
        trusted_keys(read_overlay(overlay(**{overlays.KEY: ""})), "mine", {})


def test_names_follow_from_the_data_of_both_images_and_the_key():
    def name(o=None, b=None, key=KEY):
        found = read_overlay(o or overlay())
        return read_bases([b or base()], found, "mine")[0].launch(found, key)

    assert name() == name(b=base("elsewhere", "other")) == name(o=overlay() | {"id": "copy", "owner": "other"})
    changed = [
        name(b=base(hashed="c" * 128)), name(b=base(**{overlays.MACHINE: "q35"})), name(key=SECOND),
        name(o=overlay() | {"os_hash_value": "c" * 128}),
        name(overlay(**{overlays.BASE: "e" * 64}), base(**{overlays.DIGEST: "e" * 64})),
    ]  # fmt: skip
    assert len({name(), *changed}) == len(changed) + 1
    assert len(file_name(name())) == 40
