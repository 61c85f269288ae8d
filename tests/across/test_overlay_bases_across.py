"""The base of an overlay is brought to another site with real Glances and Keystones, for those who may read it and for nobody else."""

from __future__ import annotations

from hashlib import sha256

from deployment import until
from three_sites import Tenant

from atoll.bench.api import Answer, Api
from atoll.identifiers import cached_base, cached_launch

DATA = b"atoll" * 1_000_000
DIGEST = sha256(DATA).hexdigest()


def upload(api: Api, data: bytes, **more: str) -> str:
    body = {"name": "image", "disk_format": "raw", "container_format": "bare", **more}
    image = str(api.expect("image", "POST", "/v2/images", body)["id"])
    api.expect("image", "PUT", f"/v2/images/{image}/file", data=data)
    return image


def bring(api: Api, overlay: str) -> Answer:
    """Ask a gateway for the base of an overlay, as nova-compute does."""
    api._endpoints["cloudlet"] = api.endpoint("identity").partition("/identity")[0]

    def answered() -> Answer | None:
        answer = api.call("cloudlet", "POST", f"/cloudlet/v1/overlays/{overlay}/base", {})
        return answer if answer.status != 202 else None

    return until(answered, "the base is here, or refused", 120)


def test_base_comes_to_those_who_may_read_it(victim: Tenant, attacker: Tenant) -> None:
    base = upload(victim.api("metz"), DATA, atoll_cloudlet_digest=DIGEST)
    mine, theirs = (upload(each.api("pau"), b"overlay", atoll_cloudlet_base=DIGEST) for each in (victim, attacker))
    own = victim.cloud.settings("pau").url("image")
    admin = victim.cloud.api_inside("pau")
    admin._endpoints["image"] = own
    refused = bring(attacker.api("pau"), theirs)
    assert (refused.status, refused.body["error"]["message"].startswith("no site that can be reached has an image")) == (404, True)
    assert admin.call("image", "GET", f"/v2/images/{base}").status == 404
    assert bring(attacker.api("pau"), mine).status == 404, "the overlay is not the attacker's"
    found = bring(victim.api("pau"), mine)
    assert (found.status, found.body) == (200, {"image": base})
    copy = admin.expect("image", "GET", f"/v2/images/{base}")
    assert admin.expect("image", "GET", f"/v2/images/{base}/members")["members"] == []
    assert (copy["status"], copy["owner"], copy["visibility"], copy["size"]) == ("active", victim.project, "shared", len(DATA))
    assert bring(attacker.api("pau"), theirs).status == 404, "that the site has the base now changes nothing"
    assert bring(attacker.api("pau"), mine).status == 404


def test_launch_image_comes_to_those_who_may_read_both_images(victim: Tenant, attacker: Tenant) -> None:
    """The holder's cache has the directory that nova-compute makes there; sites with the fake hypervisor make none."""
    cloud = victim.cloud
    metz, key = victim.api("metz"), "ed25519:" + "1" * 64
    base = upload(metz, DATA, atoll_cloudlet_digest=DIGEST)
    overlay = upload(metz, b"overlay", atoll_cloudlet_base=DIGEST, visibility="community", atoll_keep="everywhere")
    admin = cloud.api_inside("pau")
    admin._endpoints["image"] = cloud.settings("pau").url("image")
    until(lambda: admin.call("image", "GET", f"/v2/images/{overlay}").body.get("status") == "active", "the overlay is at pau", 120)
    shown = [metz.expect("image", "GET", f"/v2/images/{image}") for image in (base, overlay)]
    hashes = [f"{image['os_hash_algo']}:{image['os_hash_value']}" for image in shown]
    made = cloud.settings("metz").data / "cloudlet" / "cache" / cached_launch(cached_base(hashes[0], DIGEST, ""), hashes[1], key)
    made.mkdir(parents=True, mode=0o700)
    (made / "disk").write_bytes(b"disk")

    def ask(tenant: Tenant) -> Answer:
        api = tenant.api("pau")
        api._endpoints["cloudlet"] = api.endpoint("identity").partition("/identity")[0]
        return api.call("cloudlet", "POST", f"/cloudlet/v1/overlays/{overlay}/launch-image", {"keys": [key]})

    refused, sent = ask(attacker), ask(victim)
    assert (refused.status, refused.body["error"]["message"]) == (
        404,
        "no site sends the launch image sooner than the overlay's base arrives",
    )
    assert (sent.status, sent.headers["x-atoll-key"]) == (200, key)
    assert admin.call("image", "GET", f"/v2/images/{base}").status == 404
