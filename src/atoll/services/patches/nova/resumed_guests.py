"""Servers from overlays with memory: a new guest goes on where the captured guest was stopped, instead of booting.

Upstream's driver starts each guest by `Guest.launch` (nova/virt/libvirt/guest.py), which boots it. libvirt can also start a guest from a
save image (`virDomainRestore`), but Nova uses this only for a server that it suspended itself. So, for a new server from an overlay with
memory, `LibvirtDriver._create_guest` defines the guest as usual, and then

1. replaces the definition in the save image by that of the server: its id, its disk, its consoles, but the captured places of devices on
   the PCI bus (`services/nova/synthesis/hardware.py`); a server with other hardware is refused;
2. has libvirt restore the guest, paused. QEMU reads each page of memory from its place in the file (`mapped-ram`, QEMU 9.0; libvirt 11.2);
3. compares the features of the guest's CPU with the captured ones, before the guest runs;
4. attaches the server's interfaces to the running guest. A captured guest has none, because a guest would keep the MAC address that is in
   its memory. The guest sees new devices, and asks for its addresses.

Upstream then waits for Neutron's ports and lets the guest run, as ever. Only `spawn` resumes memory, and only with the disk that it has
just made: in a rebuild, memory and disk are the image's again, and a reboot or a rescue boots.

Upstream has no extension point for the start of a guest. A virt driver that accepted a save image as an image's format could replace this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
from lxml import etree
from nova import exception
from nova.conf import CONF
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt import utils as libvirt_utils

from atoll.services.contract import Settings
from atoll.services.nova.synthesis import hardware, save_image
from atoll.services.nova.synthesis.disks import Disk
from atoll.services.nova.synthesis.hardware import Hardware
from atoll.services.nova.synthesis.overlays import OverlayRefusal
from atoll.services.patches.nova.overlay_images import OverlayImages

LEAST_LIBVIRT = (11, 2, 0)
"""First version of libvirt with save images in the format `sparse`."""

LEAST_QEMU = (9, 0, 0)
"""First version of QEMU with `mapped-ram`."""

ANY_KEY = "any"
"""Value of `cloudlet_memory_keys` that stands for all keys that a server's creator trusts."""

MEMORY_FILE = "memory"
"""Name of the save image in the directory of a guest, until the guest runs."""

_DEFAULT_MODEL = "qemu64"  # QEMU's own, without an element `cpu`
DEFINITION = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
"""Flags of libvirt for the definition of a guest that does not run."""


@dataclass(frozen=True)
class CapturedMemory:
    """The memory with which a guest begins.

    Attributes:
        file: the save image.
        hardware: the machine of the captured guest.
        definition: the definition with which the guest is defined; empty for that of Nova.
    """

    file: Path
    hardware: Hardware
    definition: str = ""


class ResumedGuest(libvirt_guest.Guest):
    """A defined guest that is started from captured memory.

    Args:
        domain: libvirt's domain.
        captured: the memory.
        restore: has libvirt restore a paused guest from a save image.
    """

    def __init__(self, domain: Any, captured: CapturedMemory, restore: Callable[[str], Any]) -> None:
        super().__init__(domain)
        self._captured = captured
        self._restore = restore

    def launch(self, pause: bool = False) -> None:
        """Start the guest from its captured memory.

        Args:
            pause: whether the guest stays paused.

        Raises:
            OverlayRefusal: the server has other hardware than the captured guest, or QEMU refuses the memory.
        """
        definition = self._domain.XMLDesc(DEFINITION)
        save_image.define(self._captured.file, hardware.resumable(definition, self._captured.hardware))
        try:
            self._restore(str(self._captured.file))
        except libvirt.libvirtError as error:
            reason = " ".join(str(error).replace(str(self._captured.file), "the memory").split())
            raise OverlayRefusal(f"QEMU can't resume the overlay's memory: {reason[-120:]}") from error
        try:
            self._check_features()
            for interface in hardware.interfaces(definition):
                self._domain.attachDeviceFlags(interface, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            if not pause:
                self.resume()
        except BaseException:
            with suppress(libvirt.libvirtError):
                self.poweroff()
            raise

    def _check_features(self) -> None:
        """Compare the features of the CPU, which are known as soon as QEMU runs, with those of the captured guest.

        Raises:
            OverlayRefusal: they differ.
        """
        found = set(hardware.describe(self._domain.XMLDesc(0)).features)
        different = sorted(found ^ set(self._captured.hardware.features))
        if different:
            raise OverlayRefusal(f"the CPU of this site has other features than that of the overlay's memory: {' '.join(different)[:60]}")


class ResumedGuests(OverlayImages):
    """The libvirt driver, which resumes the memory of overlays."""

    memory_keys: tuple[str, ...] = ()
    """Names of keys whose memory is resumed even if the overlay's image is not public, or `any`."""

    public_counts = True
    """True if the memory of public images is resumed; False if another site is trusted less, as its administrators can publish images."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._spawning: dict[str, CapturedMemory | None] = {}

    def spawn(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> None:
        """Create and start a guest, from captured memory if its disk comes from an overlay with memory."""
        self._spawning[instance.uuid] = None
        try:
            super().spawn(context, instance, *arguments, **keywords)
        finally:
            captured = self._spawning.pop(instance.uuid, None)
            if captured is not None:
                captured.file.unlink(missing_ok=True)

    def keep_memory(self, instance: Any, disk: Disk) -> None:
        """Keep the memory of a launch image until the guest is created; only a guest that is being spawned resumes it."""
        if disk.memory is None or disk.hardware is None or instance.uuid not in self._spawning:
            return
        captured = hardware.parse(disk.hardware.read_bytes())
        save_image.room(disk.memory)
        file = Path(libvirt_utils.get_instance_path(instance)) / MEMORY_FILE
        disk.memory.replace(file)
        self._spawning[instance.uuid] = CapturedMemory(file, captured)

    def _create_guest(self, context: Any, xml: str, instance: Any, **named: Any) -> Any:
        """Define a guest and start it; see upstream's method for the arguments."""
        captured = self._spawning.get(instance.uuid)
        if captured is None or not (named.get("power_on", True) or named.get("pause")):
            return super()._create_guest(context, xml, instance, **named)
        made = super()._create_guest(context, captured.definition or xml, instance, **{**named, "power_on": False, "pause": False})
        self.cpu_api.power_up_for_instance(instance)
        ResumedGuest(made._domain, captured, self._restore).launch(pause=bool(named.get("pause")))
        return made

    def _restore(self, file: str) -> None:
        self._host.get_connection().restoreFlags(file, None, libvirt.VIR_DOMAIN_SAVE_PAUSED)

    def resume_conditions(self, instance: Any, image: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the conditions under which a server may resume memory (`cloudlet.resume.Resume`), without the files.

        Args:
            instance: the server.
            image: the overlay's image, as the server's creator reads it.
        """
        try:
            refused = self._unable()
            return {"refused": refused} if refused else {**self._machine(instance), "keys": self._accepted(image)}
        except (exception.NovaException, libvirt.libvirtError) as error:
            return {"refused": " ".join(str(error).split())[:150]}

    def _accepted(self, image: Mapping[str, Any]) -> list[str] | None:
        """Return the keys whose memory is resumed; `None` means all keys that the creator trusts."""
        vouched = self.public_counts and image.get("is_public")
        return None if vouched or ANY_KEY in self.memory_keys else list(self.memory_keys)

    def _unable(self) -> str:
        """Return the reason why this site can't resume memory; empty if it can."""
        if self._host.has_min_version(lv_ver=LEAST_LIBVIRT, hv_ver=LEAST_QEMU):
            return ""
        connection = self._host.get_connection()
        qemu, library = _version(connection.getVersion()), _version(connection.getLibVersion())
        return f"this site's QEMU {qemu} and libvirt {library} resume no memory: expected 9.0 and 11.2: use an overlay of a disk alone"

    def _machine(self, instance: Any) -> Mapping[str, Any]:
        """Return the CPU model, the machine type and the memory of a server.

        Raises:
            NovaException: QEMU does not know the machine type.
        """
        architecture = libvirt_utils.get_arch(instance.image_meta)
        machine = libvirt_utils.get_machine_type(instance.image_meta) or "pc"
        canonical = self._host.get_canonical_machine_type(architecture, machine)
        model = self._model(instance, architecture, canonical)
        return {"cpu": model, "machine": canonical, "mib": int(instance.flavor.memory_mb)}

    def _model(self, instance: Any, architecture: str, machine: str) -> str:
        """Return the CPU model of a server; empty if it has no name, as with `host-passthrough`."""
        wanted = self._get_guest_cpu_model_config(instance.flavor, architecture)
        if wanted is None or wanted.mode is None:
            return _DEFAULT_MODEL
        if wanted.mode == "custom":
            return str(wanted.model)
        if wanted.mode != "host-model":
            return ""
        capabilities = self._host.get_connection().getDomainCapabilities(None, architecture, machine, CONF.libvirt.virt_type)
        return str(etree.fromstring(capabilities).findtext("cpu/mode[@name='host-model']/model", "")).strip()


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}"


def prepare(settings: Settings) -> None:
    """Set the images and the keys whose memory the site resumes.

    Args:
        settings: the site's settings.
    """
    ResumedGuests.memory_keys = tuple(settings.cloudlet_memory_keys)
    ResumedGuests.public_counts = not settings.trust.keys() - {settings.control or settings.site}
