"""Root disks from overlays, with upstream's real driver, image cache and checks of formats, and the real qemu-img."""

import shutil
from textwrap import dedent

import pytest
from upstream import inside

pytest.importorskip("libvirt")

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed")

PRELUDE = """
    import os, types
    from pathlib import Path
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from unittest import mock
    import nova.virt.libvirt
    from nova import exception
    from nova.conf import CONF
    from nova.virt import images
    from nova.virt.libvirt import driver
    from nova.virt.libvirt import imagebackend
    from atoll.services.patches.nova import guest_driver, guest_faults, overlay_images
    from atoll.services.patches.shared import privsep

    privsep.disable_privsep_daemons()
    here = Path(sys.argv[1])
    CONF([], project="nova", default_config_files=[])
    CONF.set_override("instances_path", str(here / "instances"))
    CONF.set_override("images_type", "qcow2", "libvirt")
    (here / "instances" / "_base").mkdir(parents=True)
    settings = types.SimpleNamespace(
        datapath="system", data=here, cloudlet_cache_gib=1, control="", gateway_url="http://127.0.0.1:1"
    )
    overlay_images.prepare(settings)
    guest_driver.install(settings)
    calls, tasks = [], []

    class Gateway:
        def bring_base(self, overlay, creator, wrong):
            calls.append(["bring", overlay, creator.token, creator.request_id, *wrong])
            if "x" not in Glance.readable:
                raise overlay_images.OverlayRefusal("no site has the base")
            Glance.readable["b"] = base
        def fetch_launch(self, overlay, creator, keys, path, most):
            calls.append(["fetch", overlay, creator.token, creator.request_id, *keys])
            return False

    overlay_images.CallersImages.gateway = Gateway()

    class Glance:
        readable = {}
        def get(self, context, image):
            calls.append(["get", image, context.project_id])
            if image not in self.readable:
                raise exception.ImageNotFound(image_id=image)
            return self.readable[image]
        def get_all(self, context, filters, limit):
            calls.append(["list", *filters, context.project_id])
            return [each for each in self.readable.values() if "atoll_cloudlet_digest" in each["properties"]]
        def download(self, context, image, dest_path, trusted_certs):
            calls.append(["download", image, context.project_id])
            Path(dest_path).write_bytes(b"x" * 100_000)

    def image(name, **properties):
        return {"id": name, "owner": "mine", "status": "active", "size": 9, "os_hash_algo": "sha512", "os_hash_value": "a" * 64,
                "disk_format": "raw", "properties": properties}

    overlay = image("o", atoll_cloudlet_base="d" * 64, atoll_cloudlet_key="ed25519:" + "1" * 64)
    base = image("b", atoll_cloudlet_digest="d" * 64)
    plain = image("p")
    images.IMAGE_API = Glance()
    content = [b"disk of the launch image".ljust(1 << 20, b"x")]

    def worker(task):
        tasks.append(task)
        if "target" in task:
            Path(task["target"]).write_bytes(content[0])
            return task["keys"][0][0]

    overlay_images.OverlayImages.disks._worker = worker
    made = guest_driver.GuestDriver(None)
    made.resume_conditions = lambda instance, image: {"refused": "no libvirt in this test"}

    def server(reference, **kept):
        more = dict(metadata={}, trusted_certs=None, vm_state="building", task_state="spawning", migration_context=None)
        more |= {"uuid": "u", "project_id": "mine"}
        return types.SimpleNamespace(image_ref=reference, system_metadata={f"image_{n}": v for n, v in kept.items()}, **more)

    def held():
        return os.listdir(here / "instances" / "_base")

    def boot(instance, path, image_id=None, size=1 << 30, project="mine", host=None):
        calls.clear()
        disk = imagebackend.Qcow2(path=str(here / path))
        image_id = image_id or instance.image_ref
        name = driver.imagecache.get_cache_fname(image_id)
        context = types.SimpleNamespace(project_id=project, auth_token=f"of {project}", request_id="req")
        try:
            made._try_fetch_image_cache(disk, driver.libvirt_utils.fetch_image, context, name, image_id, instance, size, host)
        except exception.NovaException as error:
            return [guest_faults.reason(error), *calls]
        below = images.qemu_img_info(disk.path)
        return [os.path.basename(below.backing_file), below.virtual_size, *calls]

    def of_overlay():
        return server("o", **overlay["properties"])
"""


def run(code: str, directory) -> list:
    return inside(dedent(PRELUDE) + dedent(code), str(directory))


def test_root_disk_is_that_of_the_launch_image_and_read_as_the_caller(tmp_path):
    first, second, stored, left = run(
        """
    Glance.readable = {"o": overlay, "b": base}
    first, second = boot(of_overlay(), "first"), boot(of_overlay(), "second")
    tell([first, second, (here / "instances" / "_base" / first[0]).read_bytes()[:24].decode(), os.listdir(here / "cloudlet" / "work")])
    """,
        tmp_path,
    )
    asked = [["get", "o", "mine"], ["list", "atoll_cloudlet_digest", "status", "mine"]]
    assert first == [first[0], 1 << 30, *asked, ["download", "o", "mine"], ["download", "b", "mine"], ["get", "b", "mine"]]
    assert second == [first[0], 1 << 30, *asked]
    assert stored == "disk of the launch image"
    assert left == []


def test_base_is_brought_with_the_creators_token(tmp_path):
    first, own, refused, foreign = run(
        """
    Glance.readable = {"o": overlay, "x": plain}
    first = boot(of_overlay(), "first")
    Glance.readable = {"o": overlay}
    context = types.SimpleNamespace(project_id="mine", auth_token=None, request_id="req")
    try:
        overlay_images.CallersImages(context, of_overlay()).bring_base("o", ())
    except overlay_images.OverlayRefusal as error:
        own = str(error)
    other = types.SimpleNamespace(project_id="admins", auth_token="t", request_id="req")
    calls.clear()
    foreign = overlay_images.CallersImages(other, of_overlay()).fetch_launch("o", (), here / "x", 1) or bool(calls)
    tell([first, own, boot(of_overlay(), "second"), foreign])
    """,
        tmp_path,
    )
    listed = ["list", "atoll_cloudlet_digest", "status", "mine"]
    assert first[2:5] == [["get", "o", "mine"], listed, ["fetch", "o", "of mine", "req", "ed25519:" + "1" * 64]]
    assert first[5:7] == [["bring", "o", "of mine", "req"], listed]
    assert foreign is False, "an administrator's right is none of the server's project"
    assert own == "the overlay's base is not at this site, and no user asks for it: reboot or rebuild the server"
    assert refused[0] == "no site has the base"


def test_upstream_would_start_the_overlay_itself(tmp_path):
    """If this fails, upstream has another way to make disks: read patches/nova/overlay_images.py again."""
    found = run(
        """
    Glance.readable = {"o": overlay, "b": base}
    with mock.patch.object(guest_driver.GuestDriver, "_try_fetch_image_cache", driver.LibvirtDriver._try_fetch_image_cache):
        name = boot(of_overlay(), "first")[0]
    tell((here / "instances" / "_base" / name).read_bytes()[:3].decode())
    """,
        tmp_path,
    )
    assert found == "xxx", "the data of the overlay's image"


def test_other_images_cause_no_further_request(tmp_path):
    found = run('Glance.readable = {"p": plain}; tell(boot(server("p"), "first"))', tmp_path)
    assert found[2:] == [["download", "p", "mine"], ["get", "p", "mine"]]


def test_property_that_is_withdrawn_does_not_lead_to_the_cached_disk(tmp_path):
    """The overlay's owner could otherwise read the base of another project from the disk that its servers have left."""
    booted, withdrawn, unread = run(
        """
    Glance.readable = {"o": overlay, "b": base}
    booted = boot(of_overlay(), "first")
    Glance.readable = {"o": image("o")}
    withdrawn = boot(server("o"), "second")
    Glance.readable = {"o": overlay}
    tell([booted, withdrawn, boot(of_overlay(), "fourth")])
    """,
        tmp_path,
    )
    assert booted[0] != withdrawn[0]
    assert unread[0].startswith("no site has the base")


def test_image_that_is_no_longer_an_overlay_is_not_started_unverified(tmp_path):
    """Its owner may delete the property after another project has created a server from it."""
    deleted, left = run('Glance.readable = {"o": image("o")}; tell([boot(of_overlay(), "first"), held()])', tmp_path)
    assert deleted[0] == "the image was an overlay when the server was created, and is none now"
    assert left == []


def test_server_that_trusts_a_key_is_not_started_from_an_unsigned_image(tmp_path):
    refused, rescued, left = run(
        """
    Glance.readable = {"p": plain, "q": image("q")}
    trusting = server("p")
    trusting.metadata = {"atoll_cloudlet_trust": "ed25519:" + "1" * 64}
    tell([boot(trusting, "first"), boot(trusting, "disk.rescue", "q")[0], held()])
    """,
        tmp_path,
    )
    assert refused == ["the image is not an overlay, so no key that metadata atoll_cloudlet_trust names has signed it"]
    assert left == [rescued], "another image that the user names for a rescue is no image of the server's own"


def test_guest_that_has_its_disk_keeps_it_without_questions(tmp_path):
    """As before a hard reboot or a resize, when the images may be gone."""
    first, again = run(
        """
    Glance.readable = {"o": overlay, "b": base}
    first = boot(of_overlay(), "first")
    Glance.readable = {}
    tell([first, boot(of_overlay(), "first", size=2 << 30)])
    """,
        tmp_path,
    )
    assert again == [first[0], 2 << 30]


def test_file_below_a_guest_that_is_gone_is_made_again_and_is_never_the_overlay_itself(tmp_path):
    first, again, stored, renamed, left = run(
        """
    import subprocess
    Glance.readable = {"o": overlay, "b": base}
    first = boot(of_overlay(), "first")[0]
    file = here / "instances" / "_base" / first
    file.unlink()
    again = boot(of_overlay(), "first")[0]
    stored = file.read_bytes()[:24].decode()
    # QEMU's user can write the header of a guest's disk, and so choose the name of its backing file.
    subprocess.run(["qemu-img", "rebase", "-u", "-b", str(file.with_name("f" * 40)), "-F", "raw", here / "first"], check=True)
    tell([first, again, stored, boot(of_overlay(), "first")[0], held()])
    """,
        tmp_path,
    )
    assert (again, stored) == (first, "disk of the launch image")
    assert renamed == "the backing file of the server's disk is missing, and the image now yields another one: rebuild the server"
    assert left == [first]


def test_file_below_a_guest_that_came_from_another_host_is_copied_from_there(tmp_path):
    """As for a resize to another host; the images may be gone."""
    copied = run(
        """
    Glance.readable = {"o": overlay, "b": base}
    first = boot(of_overlay(), "first")[0]
    (here / "instances" / "_base" / first).unlink()
    Glance.readable = {}
    copied = []
    def copy(src, dest, host, receive):
        copied.append([os.path.basename(dest), host, receive])
        Path(dest).write_bytes(content[0])
    driver.libvirt_utils.copy_image = copy
    tell([first, boot(of_overlay(), "first", host="other")[0], copied])
    """,
        tmp_path,
    )
    assert copied[1:] == [copied[0], [[copied[0], "other", True]]]


def test_complete_disk_of_an_unshelved_server_needs_no_image(tmp_path):
    """As before a resize, when the images may be gone."""
    calls, size = run(
        """
    import subprocess
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", here / "whole", "1M"], check=True)
    disk = imagebackend.Qcow2(path=str(here / "whole"))
    made._try_fetch_image_cache(disk, None, None, "name", "o", of_overlay(), 1 << 30)
    tell([calls, images.qemu_img_info(disk.path).virtual_size])
    """,
        tmp_path,
    )
    assert calls == []
    assert size == 1 << 30


def test_administrators_authority_does_not_widen_that_of_the_servers_project(tmp_path):
    """An administrator evacuates or rebuilds a server; its owner has named the digest of a private base of another project."""
    foreign, own = run(
        """
    Glance.readable = {"o": overlay, "b": {**base, "owner": "victim"}}
    evacuated = of_overlay()
    evacuated.metadata = {"atoll_cloudlet_trust": overlay["properties"]["atoll_cloudlet_key"]}
    foreign = boot(evacuated, "first", project="admin")[0], held()
    Glance.readable = {"o": overlay, "b": base}
    tell([foreign, boot(of_overlay(), "second", project="admin")])
    """,
        tmp_path,
    )
    assert foreign[0].startswith("no site has the base")
    assert foreign[1] == []
    assert own[1] == 1 << 30, "the keys of the owner's own image count"


def test_image_of_an_unshelved_server_is_fetched_again(tmp_path):
    """Upstream asks for the first image of a server whose disk is over its snapshot, and then puts the disk over that image."""
    unshelved, name, held = run(
        """
    Glance.readable = {"p": plain, "snapshot": image("snapshot")}
    boot(server("snapshot"), "disk")
    unshelved = boot(server("snapshot"), "disk", "p", None)
    tell([unshelved, driver.imagecache.get_cache_fname("p"), os.listdir(here / "instances" / "_base")])
    """,
        tmp_path,
    )
    assert unshelved[2:] == [["download", "p", "mine"], ["get", "p", "mine"]]
    assert name in held


def test_rescue_by_an_overlay(tmp_path):
    found = run('Glance.readable = {"o": overlay, "b": base, "p": plain}; tell(boot(server("p"), "disk.rescue", "o", None))', tmp_path)
    assert found[1] == 1 << 20
    assert found[2] == ["get", "o", "mine"]


def test_disk_that_qemu_would_take_for_another_format(tmp_path):
    """The first bytes of a disk are its maker's: taken for qcow2, they could name any file of this machine as the disk below."""
    found = run(
        """
    import subprocess
    found = []
    for name, options in {"plain": [], "evil": ["-b", "/etc/hostname", "-F", "raw"]}.items():
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, here / name, "1M"], check=True)
        content[0] = (here / name).read_bytes().ljust(1 << 20, b"\\0")
        Glance.readable = {"o": overlay, "b": base}
        found.append([boot(of_overlay(), "first")[0], os.listdir(here / "instances" / "_base"), os.listdir(here / "cloudlet" / "work")])
    tell(found)
    """,
        tmp_path,
    )
    assert found == [["the overlay's disk begins like an image of another format: expected a raw disk", [], []]] * 2


def test_disk_that_only_qemu_takes_for_another_format(tmp_path):
    """Nova's inspection takes them for raw disks; QEMU takes the first for a list of this machine's files, and reads them."""
    found = run(
        """
    header = b"# x\\nversion=1\\nCID=fffffffe\\nparentCID=ffffffff\\ncreateType=\\"monolithicFlat\\"\\nRW 1 FLAT \\"/etc/hostname\\" 0\\n"
    parallels = b"WithouFreSpacExt" + b"".join(n.to_bytes(4, "little") for n in (2, 1, 1, 2048, 1, 2048, 0, 0, 1))
    Glance.readable = {"o": overlay, "b": base}
    found = []
    for head in (header, parallels):
        content[0] = head.ljust(1 << 20, b"\\0")
        found.append([boot(of_overlay(), "first")[0], held()])
    tell(found)
    """,
        tmp_path,
    )
    assert found == [["the overlay's disk begins like an image of another format: expected a raw disk", []]] * 2


def test_base_of_a_few_bytes_that_is_a_giant_disk(tmp_path):
    found = run(
        """
    import subprocess
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", here / "bomb", "1T"], check=True)
    Glance.download = lambda self, context, image, dest_path, trusted_certs: Path(dest_path).write_bytes((here / "bomb").read_bytes())
    Glance.readable = {"o": overlay, "b": {**base, "disk_format": "qcow2"}}
    overlay_images.image_check.install()
    found = [boot(of_overlay(), "first")[0]]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=full", here / "bomb", "2M"], check=True)
    free = mock.Mock(free=overlay_images.image_check.SPARE_BYTES + (1 << 20))
    with mock.patch.object(overlay_images.image_check.shutil, "disk_usage", return_value=free):
        found.append(boot(of_overlay(), "first")[0])
    tell([*found, os.listdir(here / "cloudlet" / "work")])
    """,
        tmp_path,
    )
    assert found[0] == "the image's disk is too large: 1048576 MiB, expected at most 1024"
    assert found[1] == "the image's disk is too large: 2 MiB of data, and 1 MiB are free"
    assert found[2] == []


def test_unshelved_disk_becomes_complete(tmp_path):
    done = run(
        """
    done = []
    made._rebase_with_qemu_img = lambda path, below: done.append([os.path.basename(path), below])
    backend = imagebackend.Qcow2(path=str(here / "disk"))
    for state in ("building", "shelved_offloaded"):
        instance = of_overlay()
        instance.vm_state = state
        made._rebase_original_qcow2_image(None, instance, backend)
    tell(done)
    """,
        tmp_path,
    )
    assert done == [["disk", None]]


def test_server_that_arrives_gets_the_disk_that_has_arrived_once(tmp_path):
    first, again, missing, hostile, rebuilt, left = run(
        """
    from atoll.identifiers import HANDOFF_HINT
    Glance.readable = {"p": plain}
    arrivals = here / "cloudlet" / "arrivals"
    arrivals.mkdir(parents=True)
    (arrivals / "u.h").write_bytes(b"disk that has arrived".ljust(1 << 20, b"x"))

    def arriving(handoff="h", **more):
        made = server("p")
        made.system_metadata[HANDOFF_HINT] = handoff
        made.__dict__.update(more)
        return made

    first = boot(arriving(), "first")
    stored = (here / "instances" / "_base" / first[0]).read_bytes()[:21].decode()
    again = boot(arriving(vm_state="active"), "first")  # as before a hard reboot
    missing = boot(arriving("other"), "second")
    content = b"QFI\\xfb" + bytes(1 << 20)
    (arrivals / "u.evil").write_bytes(content)
    hostile = boot(arriving("evil"), "third")
    rebuilt = boot(arriving(vm_state="active"), "fourth")
    tell([[stored, *first[1:]], again == first, missing, hostile[0], rebuilt[0] == first[0], sorted(os.listdir(arrivals))])
    """,
        tmp_path,
    )
    assert first == ["disk that has arrived", 1 << 30]
    assert again is True
    assert missing == ["the hand-off was withdrawn: the server's disk is not at this site"]
    assert hostile.startswith("the overlay's disk begins like an image of another format")
    assert rebuilt is False, "a rebuild begins with the image"
    assert left == ["u.evil"]
