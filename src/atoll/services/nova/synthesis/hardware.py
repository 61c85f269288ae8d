"""The hardware of a guest as it sees it: what must be the same where the guest's memory is resumed.

A memory image holds the states of the guest's devices, each under its place on a bus. QEMU reads them only if it emulates the same machine.
The part `hardware` of an image describes the machine as JSON. `describe` makes it from libvirt's definition of the captured guest, and
`resumable` gives the same places to the devices of a new server. The overlay's maker chose the content of the part, so nothing of it
reaches libvirt except places of devices on the PCI bus, which are checked.

Network interfaces are left out: they are detached before memory is captured, and attached again after it is resumed, because a guest would
keep the MAC address that is in its memory. Devices that the guest does not see, such as a VNC server, are left out too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lxml import etree

from atoll.services.nova.synthesis.overlays import OverlayRefusal

VERSION = 1
"""Version of the description."""

MOST_BYTES = 1 << 16
"""Greatest size of a description."""

UNSEEN = frozenset({"emulator", "interface", "graphics", "audio"})
"""Elements of libvirt's `devices` that the guest does not see, and interfaces."""

_BACKENDS = frozenset({"disk", "serial", "parallel", "console", "channel"})
"""Devices whose attribute `type` is that of the host's side."""

_TYPE = frozenset({"type"})
_OTHER_SIDE = frozenset({"dev", "state"})
"""Attributes of `target` that are the host's: the place of a device gives its name in the guest."""

_PCI = re.compile(r"pci 0000:([0-9a-f]{2}):([01][0-9a-f])\.([0-7])(\+?)")


@dataclass(frozen=True)
class Hardware:
    """The machine of a captured guest.

    Attributes:
        cpu: the CPU model.
        features: the CPU's features in their order of names: `+NAME` or `-NAME`.
        machine: the machine type with its version.
        memory_kib: the memory in KiB.
        settings: further properties of the machine, by name, as text.
        devices: the kind and the place of each device, in libvirt's order.
    """

    cpu: str
    features: tuple[str, ...]
    machine: str
    memory_kib: int
    settings: Mapping[str, str]
    devices: tuple[tuple[str, str], ...]

    def pack(self) -> bytes:
        """Return the description as the content of the part `hardware`."""
        fields = {
            "version": VERSION,
            "cpu": self.cpu,
            "features": list(self.features),
            "machine": self.machine,
            "memory_kib": self.memory_kib,
            "settings": dict(self.settings),
            "devices": [list(each) for each in self.devices],
        }
        return json.dumps(fields, sort_keys=True, indent=1).encode()


def describe(xml: str) -> Hardware:
    """Return the hardware of a guest from libvirt's definition of it; the CPU's features are known only of a running guest.

    Args:
        xml: libvirt's definition.
    """
    root = etree.fromstring(xml)
    system, cpu = root.find("os/type"), root.find("cpu")
    features = () if cpu is None else tuple(sorted(_feature(each) for each in cpu.findall("feature")))
    settings = {
        "hypervisor": root.get("type", ""),
        "architecture": "" if system is None else system.get("arch", ""),
        "processors": root.findtext("vcpu", "").strip(),
        "features": _words(root.find("features")),
        "timers": _words(root.find("clock")),
        "topology": _words(None if cpu is None else cpu.find("topology")),
    }
    devices = [(_kind(each), _place(each)) for each in _devices(root) if each.tag not in UNSEEN]
    machine = "" if system is None else system.get("machine", "")
    model = "" if cpu is None else cpu.findtext("model", "").strip()
    return Hardware(model, features, machine, _memory_kib(root), settings, tuple(devices))


def parse(data: bytes) -> Hardware:
    """Return the hardware that the part of an image describes.

    Raises:
        OverlayRefusal: the part is malformed.
    """
    try:
        found = json.loads(data if len(data) <= MOST_BYTES else b"")
        found = {VERSION: found}[found["version"]]
        devices = tuple((_text(kind), _text(place)) for kind, place in found["devices"])
        settings = {_text(name): _text(value) for name, value in found["settings"].items()}
        features = tuple(map(_text, found["features"]))
        return Hardware(_text(found["cpu"]), features, _text(found["machine"]), int(found["memory_kib"]), settings, devices)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise OverlayRefusal("the part hardware of the overlay is malformed: expected one that `atoll cloudlet capture` wrote") from None


def resumable(xml: str, captured: Hardware) -> str:
    """Return the definition with which a server resumes captured memory: without interfaces, and with the captured places of devices.

    Args:
        xml: libvirt's definition of the server, which is defined but does not run.
        captured: the hardware of the captured guest.

    Raises:
        OverlayRefusal: the server's hardware is another one, or a captured place is malformed.
    """
    own = describe(xml)
    found = {"memory in KiB": str(own.memory_kib), "machine type": own.machine, **own.settings}
    needed = {"memory in KiB": str(captured.memory_kib), "machine type": captured.machine, **captured.settings}
    for name in sorted({*found, *needed}):
        if found.get(name) != needed.get(name):
            raise _differs(name, needed.get(name, ""), found.get(name, ""))
    kinds, own_kinds = [kind for kind, _ in captured.devices], [kind for kind, _ in own.devices]
    for number in range(max(len(kinds), len(own_kinds))):
        kind, own_kind = _at(kinds, number), _at(own_kinds, number)
        if kind != own_kind:
            raise _differs("device", kind, own_kind)
    root = etree.fromstring(xml)
    seen = [each for each in _devices(root) if each.tag not in UNSEEN]
    for device, (_, place) in zip(seen, captured.devices, strict=True):
        _put(device, place)
    for interface in root.findall("devices/interface"):
        _devices(root).remove(interface)
    return str(etree.tostring(root, encoding="unicode"))


def host_cpu(capabilities: str) -> str:
    """Return the CPU that a hypervisor offers as `host-model`, from libvirt's description of its capabilities; empty if it offers none."""
    model = etree.fromstring(capabilities).find("cpu/mode[@name='host-model']")
    return "" if model is None else _words(model) + model.findtext("model", "") + " ".join(each.text or "" for each in model.iter("vendor"))


def interfaces(xml: str) -> list[str]:
    """Return the definitions of a guest's interfaces, without their places, so that each can be attached wherever there is room."""
    made = []
    for interface in etree.fromstring(xml).findall("devices/interface"):
        for name in ("address", "alias"):
            for each in interface.findall(name):
                interface.remove(each)
        made.append(str(etree.tostring(interface, encoding="unicode", with_tail=False)))
    return made


def _devices(root: Any) -> Any:
    found = root.find("devices")
    return etree.Element("devices") if found is None else found


def _memory_kib(root: Any) -> int:
    return int(root.findtext("memory", "0"))  # libvirt always writes KiB


def _feature(element: Any) -> str:
    return f"{'-' if element.get('policy') == 'disable' else '+'}{element.get('name')}"


def _kind(device: Any) -> str:
    """Return the kind of a device in words: all that the guest can see of it except its place."""
    words = [device.tag, *_attributes("", device, _TYPE if device.tag in _BACKENDS else frozenset())]
    for name, hidden in (("target", _OTHER_SIDE), ("model", frozenset[str]())):
        for each in device.findall(name):
            words += _attributes(f"{name}.", each, hidden)
    return " ".join(words)


def _attributes(prefix: str, element: Any, hidden: frozenset[str]) -> list[str]:
    return [f"{prefix}{name}={value}" for name, value in sorted(element.attrib.items()) if name not in hidden]


def _place(device: Any) -> str:
    """Return the place of a device on its bus; empty if it has none."""
    address = device.find("address")
    if address is None:
        return ""
    if address.get("type") != "pci":
        return " ".join(f"{name}={value}" for name, value in sorted(address.attrib.items()))
    domain, bus, slot, function = (int(address.get(name, "0"), 16) for name in ("domain", "bus", "slot", "function"))
    return f"pci {domain:04x}:{bus:02x}:{slot:02x}.{function}{'+' if address.get('multifunction') == 'on' else ''}"


def _put(device: Any, place: str) -> None:
    """Give a device its captured place on the PCI bus; on another bus, it must have this place already.

    Raises:
        OverlayRefusal: the device has another place, or the place is malformed.
    """
    own = _place(device)
    if own == place:
        return
    new = _PCI.fullmatch(place)
    address = device.find("address")
    if address is None or not own.startswith("pci ") or new is None:
        raise _differs(f"place of {device.tag}", place, own)
    bus, slot, function, multifunction = new.groups()
    address.attrib.update({"domain": "0x0000", "bus": f"0x{bus}", "slot": f"0x{slot}", "function": f"0x{function}"})
    address.attrib.pop("multifunction", None)
    if multifunction:
        address.set("multifunction", "on")


def _words(element: Any) -> str:
    """Return an element's content as words, in a form that does not depend on white space."""
    if element is None:
        return ""
    children = [f"{each.tag}({_words(each)})" for each in element]
    return " ".join([*(f"{name}={value}" for name, value in sorted(element.attrib.items())), *children])


def _at(texts: list[str], number: int) -> str:
    return texts[number] if number < len(texts) else ""


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1024 or not value.isprintable():
        raise ValueError
    return value


def _differs(what: str, needed: str, found: str) -> OverlayRefusal:
    texts = [text[:50] or "none" for text in (needed, found)]
    return OverlayRefusal(f"the overlay's memory is of other hardware: {what}: expected {texts[0]}, but the server has {texts[1]}")
