"""Nova's libvirt driver, for guests whose packets go through a switch in user space, and whose end is seen soon.

Upstream's driver (nova/virt/libvirt/driver.py) is changed in seven places:

- `LibvirtConfigGuestInterface.format_dom` (nova/virt/libvirt/config.py) has no option for the offloads of a guest's interface. Open
  vSwitch's `netdev` data path reads interfaces as raw packets: a checksum that a guest left to its interface is never computed, and larger
  packets than the MTU are dropped, so that ping works and TCP doesn't (https://github.com/openvswitch/ovs-issues/issues/273). So
  interfaces offer neither there.
- `Guest.launch` (nova/virt/libvirt/guest.py) starts QEMU, whose interfaces are devices that come and go with it. Nova plugs them anew
  before a hard reboot, but not before a soft one, nor to rescue, to unrescue or to resume: then the switch in user space goes on reading
  the devices that are gone, and the guest gets no address. So the switch is told to let go of them first. When it opens the new ones it may
  take them down, if libvirt brings them up at that moment: so they are brought up once more.
- `LibvirtDriver.attach_interface` brings its interface up once more too.
- `LibvirtDriver._create_consoles_qemu_kvm` gives a guest no serial console if libvirt knows the guest with one already, which is so before
  it is resized or rescued: then it would have none, and no console log. What libvirt knows is replaced whole, so it gets one in any case.
- `LibvirtDriver.spawn` tells in one line why it can't start a guest (`guest_faults.py`).
- `LibvirtDriver._handle_conn_event` is told that libvirt is gone, and lets nobody start guests until something else has connected to it
  again, which may take a minute. So it is tried at once.
- `Host._init_events` (nova/virt/libvirt/host.py) reports that a guest has ended 15 s later, lest a reboot be taken for an end. A reboot
  starts it again at once, and who watches a guest that was killed wants to know within ten seconds.
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
from nova.virt.libvirt import driver, guest

from atoll.services import guest_faults, libvirt_daemon
from atoll.services.contract import Settings
from atoll.services.ovn import layout

STOPPED_AFTER_S = 5
"""Seconds after which a guest that has ended is reported; a reboot starts it again sooner."""

RECONNECT_S = 0.5
"""Seconds between attempts to reach libvirt again."""

NAME = "GuestDriver"

_OFFLOADS = ("csum", "gso", "tso4", "tso6", "ecn", "ufo")


def plain(format_dom: Callable[..., Any]) -> Callable[..., Any]:
    """`LibvirtConfigGuestInterface.format_dom`, with virtio's interfaces sending whole packets with their checksums, as others do anyway.

    It can't be a subclass: Nova looks for an interface that it detaches among those of the class that it has a description of.

    Args:
        format_dom: upstream's.
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


class GuestDriver(driver.LibvirtDriver):  # type: ignore[misc]
    """What Nova runs."""

    settings: Settings
    """Of the site."""

    def init_host(self, host: str) -> None:
        """Connect to libvirt."""
        super().init_host(host)
        self._host._delayed_executor._delay = STOPPED_AFTER_S

    def _handle_conn_event(self, enabled: bool, reason: str | None) -> None:
        """Libvirt has come or gone."""
        super()._handle_conn_event(enabled, reason)
        if not enabled:
            threading.Thread(target=self._reconnect, name="libvirt-reconnect", daemon=True).start()

    def _reconnect(self) -> None:
        while True:
            time.sleep(RECONNECT_S)
            if layout.answers(libvirt_daemon.socket(self.settings)):
                with suppress(exception.HypervisorUnavailable):
                    self._host.get_connection()
                    return

    def spawn(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> None:
        """Start a guest.

        Raises:
            BuildAbortException: it can't be started; its reason is one line.
        """
        try:
            guest_faults.check_space(CONF.instances_path)
            super().spawn(context, instance, *arguments, **keywords)
        except (exception.InstanceNotFound, exception.UnexpectedDeletingTaskStateError):
            raise  # it is being deleted, which is no fault
        except Exception as error:
            raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=guest_faults.reason(error)) from error

    def attach_interface(self, context: Any, instance: Any, image_meta: Any, vif: Any) -> None:
        """Give a guest another interface.

        Raises:
            InterfaceAttachFailed: libvirt could not.
        """
        super().attach_interface(context, instance, image_meta, vif)
        if self.settings.datapath == "netdev":
            layout.raise_port(self.settings, self.vif_driver.get_vif_devname(vif))

    def _serial_ports_already_defined(self, _instance: Any) -> bool:
        """Asked for a guest that is about to be defined anew."""
        return False


def reopening(launch: Callable[..., Any], settings: Settings) -> Callable[..., Any]:
    """`Guest.launch`, with interfaces that the switch opens anew, and that are up.

    Args:
        launch: upstream's.
        settings: of the site.
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
    """Make the driver known where nova-compute looks for `libvirt.GuestDriver`.

    Args:
        settings: of the site; the data path of its switch decides what is changed.
    """
    GuestDriver.settings = settings
    if settings.datapath == "netdev":
        vconfig.LibvirtConfigGuestInterface.format_dom = plain(vconfig.LibvirtConfigGuestInterface.format_dom)
        guest.Guest.launch = reopening(guest.Guest.launch, settings)
    setattr(nova.virt.libvirt, NAME, GuestDriver)
