"""Guests that go on from captured memory, with upstream's real driver and a double of libvirt's domain."""

import json
from textwrap import dedent

import pytest
from machine_xml import FEATURES, definition
from upstream import inside

from atoll.services.nova.synthesis import hardware, save_image

pytest.importorskip("libvirt")

PRELUDE = """
    import json, types
    from pathlib import Path
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from unittest import mock
    import libvirt
    import nova.virt.libvirt
    from nova import exception
    from nova.conf import CONF
    from nova.virt.libvirt import driver
    from nova.virt.libvirt import guest as libvirt_guest
    from atoll.services.nova.synthesis import hardware, save_image
    from atoll.services.nova.synthesis.disks import Disk
    from atoll.services.nova.synthesis.overlays import OverlayRefusal
    from atoll.services.patches.nova import guest_faults, resumed_guests

    here, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    CONF([], project="nova", default_config_files=[])
    CONF.set_override("instances_path", str(here / "instances"))
    calls, fails = [], {}

    class Domain:
        running = False
        def UUIDString(self):
            return "u"
        def XMLDesc(self, flags=0):
            if flags == resumed_guests.DEFINITION:
                return given["defined"]
            return given["live"] if self.running else given["defined"]
        def createWithFlags(self, flags):
            calls.append(["boot", flags])
        def attachDeviceFlags(self, xml, flags):
            if "attach" in fails:
                raise libvirt.libvirtError(fails["attach"])
            calls.append(["attach", "fa:16:3e" in xml, "address" in xml.replace("mac address", ""), flags])
        def resume(self):
            calls.append(["resume"])
        def destroy(self):
            calls.append(["destroy"])

    domain = Domain()

    class Connection:
        def restoreFlags(self, file, xml, flags):
            calls.append(["restore", Path(file).name, xml, flags])
            if "restore" in fails:
                raise libvirt.libvirtError(fails["restore"].format(file=file))
            domain.running = True
        def getVersion(self):
            return 7_002_000
        def getLibVersion(self):
            return 9_000_000
        def getDomainCapabilities(self, *arguments):
            calls.append(["capabilities", *arguments])
            return "<capabilities><cpu><mode name='host-model'><model fallback='forbid'>EPYC</model></mode></cpu></capabilities>"

    class Host:
        new = True
        def write_instance_config(self, xml):
            calls.append(["define"] if xml == "<xml/>" else ["define", xml])
            return libvirt_guest.Guest(domain)
        def get_connection(self):
            return Connection()
        def has_min_version(self, lv_ver, hv_ver):
            assert (lv_ver, hv_ver) == ((11, 2, 0), (9, 0, 0))
            return self.new
        def get_canonical_machine_type(self, architecture, machine):
            if machine == "unknown":
                raise exception.InternalError("Invalid machine type: unknown")
            return {"pc": "pc-i440fx-10.0"}.get(machine, machine)

    made = resumed_guests.ResumedGuests(None)
    made._host = Host()
    made.cpu_api = types.SimpleNamespace(power_up_for_instance=lambda _: None)
    flavor = types.SimpleNamespace(memory_mb=512, extra_specs={})
    instance = types.SimpleNamespace(uuid="u", name="instance-1", flavor=flavor, image_ref="o")
    directory = here / "instances" / "u"
    directory.mkdir(parents=True)

    def disk(hardware_data=None):
        (here / "memory").write_bytes(save_image.HEADER.pack(save_image.MAGIC, 2, 9000, 0, 6, 0) + bytes(9000) + b"QEVM")
        (here / "hardware").write_bytes(hardware_data or given["hardware"].encode())
        return Disk("name", None, here / "memory", here / "hardware")

    def spawn(pause=False, power_on=True, data=None):
        calls.clear()
        domain.running = False
        def upstream(self, context, instance, *more, **named):
            self.keep_memory(instance, disk(data))
            drive = lambda: calls.append(["drive"])
            self._create_guest(context, "<xml/>", instance, power_on=power_on, pause=pause, post_xml_callback=drive)
        with mock.patch.object(driver.LibvirtDriver, "spawn", upstream):
            try:
                made.spawn(None, instance)
            except Exception as error:
                return [guest_faults.reason(error), *calls]
        return list(calls)
"""


def run(code: str, directory, **changes: object):
    given = {
        "defined": definition(slots=(2, 3, 4), interfaces=2),
        "live": definition(interfaces=0, live=True, features=FEATURES),
        "hardware": hardware.describe(definition(interfaces=0, live=True, features=FEATURES)).pack().decode(),
    }
    return inside(dedent(PRELUDE) + dedent(code), str(directory), json.dumps({**given, **changes}))


ATTACHED = [["attach", True, False, 1]] * 2
RESTORED = ["restore", "memory", None, 4]


def test_new_guest_resumes_and_gets_its_interfaces(tmp_path):
    paused, running, left = run("tell([spawn(pause=True), spawn(), [each.name for each in directory.iterdir()]])", tmp_path)
    assert paused == [["define"], ["drive"], RESTORED, *ATTACHED], "upstream lets it run when its ports are there"
    assert running == [*paused, ["resume"]]
    assert left == [], "the memory is deleted as soon as the guest is created"


def test_libvirt_reads_the_servers_own_definition(tmp_path):
    seen = run(
        """
    def restore(self, file, xml, flags):
        global seen
        seen = Path(file).read_bytes()[92:92 + 9000].rstrip(b"\\0").decode()
        domain.running = True
    Connection.restoreFlags = restore
    spawn()
    tell(seen)
    """,
        tmp_path,
    )
    assert hardware.describe(seen).devices == hardware.describe(definition(interfaces=0)).devices
    assert "<interface" not in seen
    assert len(save_image.MAGIC) == 16


def test_upstream_boots_each_guest(tmp_path):
    """If this fails, upstream has another way to start guests: read patches/nova/resumed_guests.py again."""
    found = run(
        """
    plain = driver.LibvirtDriver._create_guest(made, None, "<xml/>", instance, pause=True)
    tell(calls)
    """,
        tmp_path,
    )
    assert found == [["define"], ["boot", 1]]


def test_only_a_spawn_resumes(tmp_path):
    """A reboot or a rescue has no memory: its disk has changed since."""
    kept, booted = run(
        """
    made.keep_memory(instance, disk())
    made._create_guest(None, "<xml/>", instance, pause=True)
    tell([(here / "memory").exists(), calls])
    """,
        tmp_path,
    )
    assert kept, "the memory of a disk that is made again is not taken"
    assert booted == [["define"], ["boot", 1]]


def test_guest_that_is_not_started_does_not_resume(tmp_path):
    assert run("tell(spawn(power_on=False))", tmp_path) == [["define"], ["drive"]]


def test_cpu_with_other_features_never_runs(tmp_path):
    live = definition(interfaces=0, live=True, features=FEATURES[:1])
    found = run("tell([spawn(), [each.name for each in directory.iterdir()]])", tmp_path, live=live)
    text = "the CPU of this site has other features than that of the overlay's memory: -vme"
    assert found == [[text, ["define"], ["drive"], RESTORED, ["destroy"]], []]


def test_other_hardware_is_refused_before_qemu_runs(tmp_path):
    found = run("tell(spawn())", tmp_path, defined=definition(memory=1 << 20))
    assert found[0] == "the overlay's memory is of other hardware: memory in KiB: expected 524288, but the server has 1048576"
    assert found[1:] == [["define"], ["drive"]]


def test_malformed_hardware_is_refused_before_anything_is_defined(tmp_path):
    found = run('tell([spawn(data=b"[]"), [each.name for each in directory.iterdir()]])', tmp_path)
    assert found == [["the part hardware of the overlay is malformed: expected one that `atoll cloudlet capture` wrote"], []]


def test_qemu_that_refuses_the_memory_is_one_line_without_places(tmp_path):
    (text, *done), left = run(
        """
    fails["restore"] = "internal error: QEMU unexpectedly closed the monitor:\\n{file}: Unknown savevm section"
    tell([spawn(), [each.name for each in directory.iterdir()]])
    """,
        tmp_path,
    )
    assert text.startswith("QEMU can't resume the overlay's memory: ")
    assert text.endswith("the memory: Unknown savevm section")
    assert str(tmp_path) not in text
    assert done == [["define"], ["drive"], RESTORED]
    assert left == []


def test_interface_that_can_not_be_attached_ends_the_guest(tmp_path):
    found = run('fails["attach"] = "no more slots"; tell(spawn())', tmp_path)
    assert found == ["no more slots", ["define"], ["drive"], RESTORED, ["destroy"]]


CONDITIONS = """
    from nova.virt.libvirt import config
    instance.image_meta = None
    machine = ["pc"]
    resumed_guests.libvirt_utils.get_arch = lambda _: "x86_64"
    resumed_guests.libvirt_utils.get_machine_type = lambda _: machine[0]
    def wanted(mode, model=None):
        cpu = config.LibvirtConfigGuestCPU()
        cpu.mode, cpu.model = mode, model
        made._get_guest_cpu_model_config = lambda flavor, arch: cpu
    wanted("host-model")
    def conditions(**image):
        return made.resume_conditions(instance, {"is_public": False, **image})
"""


def test_administrator_decides_whose_memory_is_resumed(tmp_path):
    found = run(
        CONDITIONS
        + """
    found = [conditions(is_public=True)["keys"], conditions()["keys"]]
    made.memory_keys = ("ed25519:1",)
    found.append(conditions()["keys"])
    made.memory_keys = ("any",)
    tell([*found, conditions()["keys"]])
    """,
        tmp_path,
    )
    assert found == [None, [], ["ed25519:1"], None]


def test_administrators_of_a_site_that_is_trusted_less_vouch_for_no_memory_elsewhere(tmp_path):
    """They can make an image public at their site, and their users can choose it at any site."""
    found = run(
        CONDITIONS
        + """
    found = []
    for site, control in (("paris", ""), ("host", "paris"), ("nice", ""), ("host", "nice")):
        for trust in ({}, {"nice": "local-admin"}):
            settings = types.SimpleNamespace(site=site, control=control, trust=trust, cloudlet_memory_keys=["ed25519:1"])
            resumed_guests.prepare(settings)
            found.append(conditions(is_public=True)["keys"])
    tell(found)
    """,
        tmp_path,
    )
    assert found == [None, ["ed25519:1"]] * 2 + [None, None] * 2


def test_conditions_of_a_server(tmp_path):
    found = run(
        CONDITIONS
        + """
    found = [conditions()]
    for mode, model in (("custom", "Haswell"), (None, None), ("host-passthrough", None)):
        wanted(mode, model)
        found.append(conditions()["cpu"])
    tell([*found, calls])
    """,
        tmp_path,
    )
    assert found[0] == {"cpu": "EPYC", "machine": "pc-i440fx-10.0", "mib": 512, "keys": []}
    assert found[1:4] == ["Haswell", "qemu64", ""]
    assert found[4] == [["capabilities", None, "x86_64", "pc-i440fx-10.0", "kvm"]]


def test_site_that_can_not_resume_says_why(tmp_path):
    old, unknown = run(
        CONDITIONS
        + """
    Host.new = False
    old = conditions()
    Host.new, machine[0] = True, "unknown"
    tell([old, conditions()])
    """,
        tmp_path,
    )
    text = "this site's QEMU 7.2 and libvirt 9.0 resume no memory: expected 9.0 and 11.2: use an overlay of a disk alone"
    assert old == {"refused": text}
    assert "Invalid machine type: unknown" in unknown["refused"]
