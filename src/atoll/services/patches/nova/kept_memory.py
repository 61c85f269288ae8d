"""Servers that are handed off keep their memory: it is saved when the server stops, and resumed when it starts at either site.

Upstream's driver stops a guest by asking it to shut down (`LibvirtDriver.power_off`, nova/virt/libvirt/driver.py), and starts it again by a
boot. A server that is handed off would lose all that is in its memory. So, while the gateway has put the file `KEEP_MEMORY` into the
directory of a server's disk,

- `power_off` detaches the guest's interfaces and has libvirt save its memory, which stops the guest. If that fails, or if the site can't
  resume memory, the guest is shut down as ever, and boots later.
- `power_on` resumes the memory that was kept, as `spawn` resumes that of an overlay (`resumed_guests.py`). The guest is defined as it was,
  because Nova's own definition differs in a detail: `_register_undefined_instance_details` gives a new server the property `hw_input_bus`,
  so from the first hard reboot on it has a USB keyboard. If QEMU refuses the memory, the guest boots. In both cases it is deleted.
- Any other start of the guest deletes the memory first, because the disk is a later one from then on.

A server that arrives with its memory (`arriving_servers.py`) resumes it. The gateway puts it beside the disk, before the disk. nova-compute
takes the memory first, so a server whose disk it gets has not lost its memory on the way.

QEMU reads the states of devices from the memory. So it is sent only between sites with the same CPU, hypervisor and versions: `init_host`
writes a digest of all these to the file `RESUMES`, which the gateways compare.

Nova could offer this as a kind of suspension whose state can be moved to another cloud.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import libvirt
from nova import exception
from nova.compute import vm_states
from nova.conf import CONF
from nova.virt.libvirt import utils as libvirt_utils
from oslo_log import log

from atoll.errors import AtollError
from atoll.files import flush
from atoll.identifiers import HANDOFF_HINT, KEEP_MEMORY, KEPT_MEMORY, RESUMES, arrival_memory
from atoll.services.nova.synthesis import hardware, save_image, saving
from atoll.services.patches.nova.resumed_guests import DEFINITION, MEMORY_FILE, CapturedMemory, ResumedGuests

LOG = log.getLogger(__name__)

RELEASED_S = 20.0
"""Seconds within which a guest must have released its interfaces; else it is shut down."""

_KEPT_DEFINITION, _PART = "kept-definition", ".part"


class KeptMemory(ResumedGuests):
    """The libvirt driver, which keeps the memory of servers that are handed off."""

    def init_host(self, host: str) -> None:
        """Connect to libvirt, and tell the gateway on what memory depends at this site."""
        super().init_host(host)
        file = self.arrivals.parent / RESUMES
        try:
            digest = "" if self._unable() else self._ability()
        except libvirt.libvirtError as error:
            LOG.warning("it is not known whether this site can resume memory: %s", error)
            digest = ""
        if digest:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_text(digest, encoding="ascii")
        else:
            file.unlink(missing_ok=True)

    def _ability(self) -> str:
        """Return a digest of the CPU, the hypervisor and the versions of this site."""
        connection = self._host.get_connection()
        capabilities = connection.getDomainCapabilities(None, None, None, CONF.libvirt.virt_type)
        configured = [str(CONF.libvirt.cpu_mode), list(CONF.libvirt.cpu_models or []), list(CONF.libvirt.cpu_model_extra_flags or [])]
        found = [hardware.host_cpu(capabilities), configured, CONF.libvirt.virt_type, connection.getVersion(), connection.getLibVersion()]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()

    # At the source

    def power_off(self, instance: Any, *arguments: Any, **keywords: Any) -> None:
        """Stop a guest, and keep its memory if the gateway has asked for that."""
        if (_directory(instance) / KEEP_MEMORY).exists():
            self._keep(instance)
        super().power_off(instance, *arguments, **keywords)

    def _keep(self, instance: Any) -> None:
        """Save the memory of a guest, which stops it; if that fails, the guest goes on."""
        memory, machine = _kept_files(instance)
        part = memory.with_suffix(_PART)
        try:
            domain = self._host.get_guest(instance)._domain
            if self._unable() or not domain.isActive():
                return
            definition = domain.XMLDesc(DEFINITION)
            found = saving.save(domain, part, RELEASED_S)
            machine.write_bytes(found.pack())
            (_directory(instance) / _KEPT_DEFINITION).write_text(definition, encoding="utf-8")
            flush(part)
            part.replace(memory)
        except (AtollError, libvirt.libvirtError, exception.NovaException, OSError) as error:
            LOG.warning("the memory of server %s is not kept, and it will boot: %s", instance.uuid, error)
            part.unlink(missing_ok=True)

    def power_on(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> None:
        """Start a guest, from its kept memory if there is one."""
        captured = self._kept(instance)
        if captured is None:
            super().power_on(context, instance, *arguments, **keywords)
            return
        self._spawning[instance.uuid] = captured
        try:
            super().power_on(context, instance, *arguments, **keywords)
        except Exception:  # whatever the reason is, a guest that boots is better than none
            LOG.exception("server %s can't resume its memory, and boots", instance.uuid)
            self._spawning.pop(instance.uuid, None)
            super().power_on(context, instance, *arguments, **keywords)
        finally:
            self._spawning.pop(instance.uuid, None)
            _forget(instance)

    def _kept(self, instance: Any) -> CapturedMemory | None:
        """Return the memory that was kept when a guest was stopped; `None` if there is none that can be used."""
        memory, machine = _kept_files(instance)
        if not memory.is_file():
            return None
        try:
            save_image.room(memory)
            definition = (_directory(instance) / _KEPT_DEFINITION).read_text(encoding="utf-8")
            return CapturedMemory(memory, hardware.parse(machine.read_bytes()), definition)
        except Exception as error:
            LOG.warning("the kept memory of server %s can't be used, and it boots: %s", instance.uuid, error)
            return None

    def _create_guest(self, context: Any, xml: str, instance: Any, **named: Any) -> Any:
        """Define a guest and start it; a start without its memory deletes what was kept of it."""
        if self._spawning.get(instance.uuid) is None and (named.get("power_on", True) or named.get("pause")):
            _forget(instance)
        return super()._create_guest(context, xml, instance, **named)

    # At the destination

    def _arrived(self, context: Any, instance: Any, image: Any) -> Any:
        """Return the source of the disk of a server that arrives, and take its memory; see the parent's method."""
        found = super()._arrived(context, instance, image)
        if found is not None and instance.vm_state == vm_states.BUILDING and not image.exists() and instance.uuid in self._spawning:
            self._take_memory(instance)
        return found

    def _take_memory(self, instance: Any) -> None:
        """Take the memory of a server that arrives, if it has one.

        Raises:
            OverlayRefusal: the memory or the description of its machine is malformed.
        """
        memory, machine = (self.arrivals / name for name in arrival_memory(instance.uuid, instance.system_metadata[HANDOFF_HINT]))
        if not memory.is_file():
            return
        captured = hardware.parse(machine.read_bytes())
        save_image.room(memory)
        file = _directory(instance) / MEMORY_FILE
        memory.replace(file)
        machine.unlink()
        self._spawning[instance.uuid] = CapturedMemory(file, captured)


def _directory(instance: Any) -> Path:
    return Path(libvirt_utils.get_instance_path(instance))


def _kept_files(instance: Any) -> tuple[Path, Path]:
    memory, machine = (_directory(instance) / name for name in KEPT_MEMORY)
    return memory, machine


def _forget(instance: Any) -> None:
    files = _kept_files(instance)
    for file in (*files, files[0].with_suffix(_PART), _directory(instance) / _KEPT_DEFINITION):
        file.unlink(missing_ok=True)
