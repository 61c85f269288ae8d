"""Nova's libvirt driver, for guests whose packets go through a switch in user space, and whose end is seen soon.

Upstream's driver (nova/virt/libvirt/driver.py) is changed in four places:

- `LibvirtConfigGuestInterface.format_dom` (nova/virt/libvirt/config.py) has no option for the offloads of a guest's interface. Open
  vSwitch's `netdev` data path reads interfaces as raw packets: a checksum that a guest left to its interface is never computed, and larger
  packets than the MTU are dropped, so that ping works and TCP doesn't (https://github.com/openvswitch/ovs-issues/issues/273). So
  interfaces offer neither there.
- `Guest.launch` (nova/virt/libvirt/guest.py) starts QEMU, whose interfaces are devices that come and go with it. Nova plugs them anew
  before a hard reboot, but not before a soft one, nor to rescue, to unrescue or to resume: then the switch in user space goes on reading
  the devices that are gone, and the guest gets no address. So the switch is told to let go of them first.
- `LibvirtDriver._create_consoles_qemu_kvm` gives a guest no serial console if libvirt knows the guest with one already, which is so before
  it is resized or rescued: then it would have none, and no console log. What libvirt knows is replaced whole, so it gets one in any case.
- `Host._init_events` (nova/virt/libvirt/host.py) reports that a guest has ended 15 s later, lest a reboot be taken for an end. A reboot
  starts it again at once, and who watches a guest that was killed wants to know within ten seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import nova.virt.libvirt
from lxml import etree
from nova.virt.libvirt import config as vconfig
from nova.virt.libvirt import driver, guest

from atoll.services.contract import Settings
from atoll.services.ovn import layout

STOPPED_AFTER_S = 5
"""Seconds after which a guest that has ended is reported; a reboot starts it again sooner."""

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

    def init_host(self, host: str) -> None:
        """Connect to libvirt."""
        super().init_host(host)
        self._host._delayed_executor._delay = STOPPED_AFTER_S

    def _serial_ports_already_defined(self, _instance: Any) -> bool:
        """Asked for a guest that is about to be defined anew."""
        return False


def reopening(launch: Callable[..., Any], settings: Settings) -> Callable[..., Any]:
    """`Guest.launch`, with interfaces that the switch opens anew.

    Args:
        launch: upstream's.
        settings: of the site.
    """

    @wraps(launch)
    def launched(started: Any, pause: bool = False) -> Any:
        for interface in started.get_interfaces():
            layout.reopen_port(settings, interface)
        return launch(started, pause)

    return launched


def install(settings: Settings) -> None:
    """Make the driver known where nova-compute looks for `libvirt.GuestDriver`.

    Args:
        settings: of the site; the data path of its switch decides what is changed.
    """
    if settings.datapath == "netdev":
        vconfig.LibvirtConfigGuestInterface.format_dom = plain(vconfig.LibvirtConfigGuestInterface.format_dom)
        guest.Guest.launch = reopening(guest.Guest.launch, settings)
    setattr(nova.virt.libvirt, NAME, GuestDriver)
