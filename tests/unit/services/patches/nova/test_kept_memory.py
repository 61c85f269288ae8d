"""Guests that keep their memory when they stop, and resume it here or at another site, with upstream's real driver."""

from textwrap import dedent

import pytest
from test_resumed_guests import ATTACHED, RESTORED, run

from atoll.identifiers import arrival_memory

pytest.importorskip("libvirt")

KEPT = """
    from atoll.errors import AtollError
    from atoll.identifiers import KEEP_MEMORY, KEPT_MEMORY, RESUMES, arrival_memory
    from atoll.services.nova.synthesis import saving
    from atoll.services.patches.nova import kept_memory
    made = kept_memory.KeptMemory(None)
    made._host, made.cpu_api = Host(), types.SimpleNamespace(power_up_for_instance=lambda _: None)
    made.arrivals = here / "cloudlet" / "arrivals"
    made.arrivals.mkdir(parents=True)
    memory, machine = (directory / name for name in KEPT_MEMORY)
    Host.get_guest = lambda self, instance: libvirt_guest.Guest(domain)
    Domain.isActive = lambda self: self.running

    def save(domain, file, within_s):
        calls.append(["save"])
        if "save" in fails:
            raise AtollError("cloudlet.capture", fails["save"], "")
        domain.running = False
        file.write_bytes(disk().memory.read_bytes())
        return hardware.parse(given["hardware"].encode())

    saving.save = save
    driver.LibvirtDriver.power_off = lambda self, instance, *more: calls.append(["upstream stops", domain.running])

    def stop(keep=True):
        calls.clear()
        domain.running = True
        if keep:
            (directory / KEEP_MEMORY).touch()
        made.power_off(instance, 60, 10)
        return list(calls)

    def power_on(self, context, instance, *more):
        self._create_guest(context, "<xml/>", instance)

    driver.LibvirtDriver.power_on = power_on

    def start():
        calls.clear()
        domain.running = False
        made.power_on(None, instance, [])
        return list(calls)

    def left():
        return sorted(each.name for each in directory.iterdir() if "kept" in each.name or "memory" == each.name)
"""

BOOTED = [["define"], ["boot", 0]]


def kept(code: str, directory, **changes: object):
    return run(dedent(KEPT) + dedent(code), directory, **changes)


def test_stopped_guest_keeps_its_memory_and_resumes_it(tmp_path):
    found = kept("tell([stop(), left(), start(), left(), start()])", tmp_path)
    restored = ["restore", "kept-memory", None, 4]
    assert found[:2] == [[["save"], ["upstream stops", False]], ["kept-definition", "kept-hardware", "kept-memory"]]
    (define, definition), *resumed = found[2]
    assert (define, "<interface" in definition) == ("define", True), "the definition is the one that the guest had"
    assert (resumed, found[3]) == ([restored, *ATTACHED, ["resume"]], [])
    assert found[4] == BOOTED, "the memory is resumed once"


def test_upstream_shuts_a_guest_down_and_boots_it(tmp_path):
    """If this fails, upstream can keep memory itself: read patches/nova/kept_memory.py again."""
    assert kept("tell([stop(keep=False), start()])", tmp_path) == [[["upstream stops", True]], BOOTED]


def test_guest_whose_memory_can_not_be_saved_is_shut_down(tmp_path):
    found = kept('fails["save"] = "it holds its interfaces"; tell([stop(), left(), start()])', tmp_path)
    assert found == [[["save"], ["upstream stops", True]], [], BOOTED]


def test_site_with_older_qemu_shuts_the_guest_down(tmp_path):
    assert kept("Host.new = False; tell([stop(), left()])", tmp_path) == [[["upstream stops", True]], []]


def test_memory_that_qemu_refuses_is_given_up_and_the_guest_boots(tmp_path):
    found = kept('stop(); fails["restore"] = "unknown section"; tell([start(), left()])', tmp_path)
    assert (found[0][1:], found[1]) == ([["restore", "kept-memory", None, 4], *BOOTED], [])


@pytest.mark.parametrize("damage", ["memory.write_bytes(b'x')", "machine.unlink()", "machine.write_text('[]')"])
def test_damaged_memory_is_given_up_and_the_guest_boots(tmp_path, damage):
    assert kept(f"stop(); {damage}; tell([start(), left()])", tmp_path) == [BOOTED, []]


def test_any_other_start_deletes_the_memory(tmp_path):
    """The disk changes from then on, and would not fit the memory any more."""
    found = kept(
        """
    stop()
    made._create_guest(None, "<xml/>", instance, power_on=False)
    memory.with_suffix(".part").write_text("left by a nova-compute that was killed")
    defined = left()[:3]
    made._create_guest(None, "<xml/>", instance)
    tell([defined, left(), start()])
    """,
        tmp_path,
    )
    assert found == [["kept-definition", "kept-hardware", "kept-memory"], [], BOOTED]


ARRIVES = """
    from atoll.services.patches.nova import overlay_images
    instance.vm_state, instance.system_metadata = "building", {"atoll_handoff": "h"}
    instance.uuid = "u"
    offered = [made.arrivals / name for name in arrival_memory("u", "h")]

    def arrive(memory=True, machine=None):
        if memory:
            offered[0].write_bytes(disk().memory.read_bytes())
            offered[1].write_bytes(machine or given["hardware"].encode())
        image = types.SimpleNamespace(exists=lambda: False)
        def upstream(self, context, instance, *more, **named):
            with mock.patch.object(overlay_images.OverlayImages, "_arrived", lambda *_: ("source", "name")):
                calls.append(list(self._arrived(context, instance, image)))
            self._create_guest(context, "<xml/>", instance)
        with mock.patch.object(driver.LibvirtDriver, "spawn", upstream):
            calls.clear()
            try:
                made.spawn(None, instance)
            except Exception as error:
                return guest_faults.reason(error)
        return list(calls)
"""


def test_server_that_arrives_resumes_its_memory_once(tmp_path):
    found = kept(dedent(ARRIVES) + "tell([arrive(), left(), [each.exists() for each in offered], arrive(memory=False)])", tmp_path)
    assert found[0] == [["source", "name"], ["define"], RESTORED, *ATTACHED, ["resume"]]
    assert found[1:3] == [[], [False, False]]
    assert found[3] == [["source", "name"], *BOOTED], "without memory it boots"


def test_malformed_description_of_the_machine_is_refused(tmp_path):
    told = kept(dedent(ARRIVES) + 'tell(arrive(machine=b"[]"))', tmp_path)
    assert told.startswith("the part hardware of the overlay is malformed")


def test_site_tells_on_what_its_memory_depends(tmp_path):
    found = kept(
        """
    driver.LibvirtDriver.init_host = lambda self, host: None
    file = here / "cloudlet" / RESUMES
    def told():
        made.init_host("paris")
        return file.read_text() if file.exists() else ""
    first, again = told(), told()
    Connection.getVersion = lambda self: 10_000_000
    newer = told()
    Host.new = False
    tell([first == again, len(first), newer not in {"", first}, told()])
    """,
        tmp_path,
    )
    assert found == [True, 64, True, ""]


def test_names_of_arriving_memory_belong_to_one_hand_off():
    assert len({*arrival_memory("s", "h"), *arrival_memory("s", "i"), *arrival_memory("t", "h")}) == 6
