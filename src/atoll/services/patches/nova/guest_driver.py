"""Nova's libvirt driver, for guests behind a switch in user space, with prompt reports of their end.

Upstream's driver (nova/virt/libvirt/driver.py) is changed in seven places:

- `LibvirtConfigGuestInterface.format_dom` (nova/virt/libvirt/config.py) has no option for the offloads of a guest's interface. Open
  vSwitch's data path `netdev` reads interfaces as raw packets: a checksum that a guest left to its interface is never computed, and
  packets larger than the MTU are dropped, so that ping works and TCP does not (https://github.com/openvswitch/ovs-issues/issues/273). So
  the interfaces of guests on `netdev` offer neither checksum nor segmentation offload.
- `Guest.launch` (nova/virt/libvirt/guest.py) starts QEMU, whose interfaces are devices that exist as long as it runs. Nova plugs them again
  before a hard reboot, but not before a soft one, nor to rescue, to unrescue or to resume: then a switch in user space continues to read
  the removed devices, and the guest gets no address. So the switch first releases them. If libvirt brings the new devices up while the
  switch opens them, the switch may take them down again: so they are brought up once more.
- `LibvirtDriver.attach_interface` brings the attached interface up once more, for the same reason.
- `LibvirtDriver._create_consoles_qemu_kvm` adds no serial console to a guest's new definition if the old one has a console, as before a
  resize or a rescue. But the new definition replaces the old one as a whole, so the guest would lose its console and its log. Here each
  new definition gets a console.
- `LibvirtDriver.spawn` reports in one line why a guest cannot start (`guest_faults.py`).
- `LibvirtDriver._handle_conn_event` learns that libvirt is gone, and refuses to start guests until something else has reconnected, which
  may take a minute. Here it reconnects immediately.
- `Host._init_events` (nova/virt/libvirt/host.py) delays the report of a guest's end by 15 s, so that a reboot is not reported as an end. A
  reboot starts the guest again immediately, so a delay of 5 s is enough, and an operator expects the report within ten seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import nova.virt.libvirt
from lxml import etree
from nova import exception
from nova.conf import CONF
from nova.virt.libvirt import config as vconfig
from nova.virt.libvirt import guest

from atoll.services.contract import Settings
from atoll.services.neutron.ovn import layout
from atoll.services.nova import libvirtd
from atoll.services.patches.nova import guest_faults
from atoll.services.patches.nova.kept_memory import KeptMemory
from atoll.services.patches.nova.resumed_guests import ResumedGuest

STOPPED_AFTER_S = 5
"""Seconds after which the end of a guest is reported; a reboot starts it again sooner."""

RECONNECT_S = 0.5
"""Seconds between attempts to reach libvirt."""

NAME = "GuestDriver"

_OFFLOADS = ("csum", "gso", "tso4", "tso6", "ecn", "ufo")


def without_offloads(format_dom: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `LibvirtConfigGuestInterface.format_dom`, so that virtio interfaces send whole packets with their checksums.

    Interfaces of other models do so anyway. A subclass would not work: when Nova detaches an interface, it compares only
    descriptions of the same class.

    Args:
        format_dom: upstream's method.
    """

    @wraps(format_dom)
    def formatted(conf: Any) -> Any:
        interface = format_dom(conf)
        if conf.model == "virtio":
            element = interface.find("driver")
            if element is None:
                element = etree.SubElement(interface, "driver")
            etree.SubElement(element, "host", **dict.fromkeys(_OFFLOADS, "off"))
        return interface

    return formatted


class GuestDriver(KeptMemory):
    """The libvirt driver that Nova uses."""

    settings: Settings
    """Settings of the site."""

    def init_host(self, host: str) -> None:
        """Connect to libvirt, and set the delay after which the end of a guest is reported."""
        super().init_host(host)
        self._host._delayed_executor._delay = STOPPED_AFTER_S

    def _handle_conn_event(self, enabled: bool, reason: str | None) -> None:
        """React to a loss or a return of the connection to libvirt."""
        super()._handle_conn_event(enabled, reason)
        if not enabled:
            threading.Thread(target=self._reconnect, name="libvirt-reconnect", daemon=True).start()

    def _reconnect(self) -> None:
        while True:
            time.sleep(RECONNECT_S)
            if layout.answers(libvirtd.socket(self.settings)):
                with suppress(exception.HypervisorUnavailable):
                    self._host.get_connection()
                    return

    def spawn(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> None:
        """Create and start a guest.

        Raises:
            BuildAbortException: the guest cannot start; its reason is one line.
        """
        try:
            guest_faults.check_space(CONF.instances_path)
            super().spawn(context, instance, *arguments, **keywords)
        except (exception.InstanceNotFound, exception.UnexpectedDeletingTaskStateError):
            raise  # the server is being deleted, which is not a fault
        except Exception as error:
            raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=guest_faults.reason(error)) from error

    def attach_interface(self, context: Any, instance: Any, image_meta: Any, vif: Any) -> None:
        """Attach an interface to a guest.

        Raises:
            InterfaceAttachFailed: libvirt has failed.
        """
        super().attach_interface(context, instance, image_meta, vif)
        if self.settings.datapath == "netdev":
            layout.raise_port(self.settings, self.vif_driver.get_vif_devname(vif))

    def _serial_ports_already_defined(self, _instance: Any) -> bool:
        """Return False: Nova asks this of a guest whose definition it is about to replace."""
        return False


def reopening_interfaces(launch: Callable[..., Any], settings: Settings) -> Callable[..., Any]:
    """Wrap `Guest.launch`, so that the switch opens the guest's interfaces again, and they are up.

    Args:
        launch: upstream's method.
        settings: the site's settings.
    """

    @wraps(launch)
    def launched(started: Any, pause: bool = False) -> Any:
        for interface in filter(None, started.get_interfaces()):
            layout.reopen_port(settings, interface)
        done = launch(started, pause)
        for interface in filter(None, started.get_interfaces()):
            layout.raise_port(settings, interface)
        return done

    return launched


def install(settings: Settings) -> None:
    """Put the driver into `nova.virt.libvirt`, where nova-compute looks for `libvirt.GuestDriver`.

    Args:
        settings: the site's settings; the data path of its switch decides which patches it needs.
    """
    GuestDriver.settings = settings
    if settings.datapath == "netdev":
        vconfig.LibvirtConfigGuestInterface.format_dom = without_offloads(vconfig.LibvirtConfigGuestInterface.format_dom)
        kinds: tuple[Any, ...] = (guest.Guest, ResumedGuest)
        for kind in kinds:
            kind.launch = reopening_interfaces(kind.launch, settings)
    setattr(nova.virt.libvirt, NAME, GuestDriver)
