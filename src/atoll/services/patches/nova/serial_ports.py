"""Gives a free port to the serial console of a guest that is unrescued.

Nova releases the port when it rescues a guest (`LibvirtDriver._destroy` in nova/virt/libvirt/driver.py), and may give it to another guest.
To unrescue the guest, Nova starts it from its earlier definition, with that port: if another guest has the port by then, QEMU does not
start. So the definition gets a free port first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from lxml import etree
from nova.conf import CONF
from nova.console import serial
from nova.virt.libvirt import driver
from nova.virt.libvirt import utils as libvirt_utils

FILE = "unrescue.xml"
"""Name of the file with the earlier definition, in the guest's directory."""


def with_free_ports(description: bytes) -> bytes:
    """Return the definition of a guest with a free port for each serial port that listens.

    Args:
        description: libvirt's XML.

    Raises:
        SocketPortRangeExhaustedException: no port is free.
    """
    domain = etree.fromstring(description)
    taken: dict[tuple[str, str], str] = {}
    # The first console is the first serial port.
    for source in domain.xpath("devices/*[self::serial or self::console][@type='tcp']/source[@mode='bind']"):
        place = source.get("host"), source.get("service")
        if place not in taken:
            taken[place] = str(serial.acquire_port(place[0]))
        source.set("service", taken[place])
    return bytes(etree.tostring(domain))


def on_free_ports(unrescue: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `LibvirtDriver.unrescue`, so that the guest has free ports.

    Args:
        unrescue: upstream's method.
    """

    @wraps(unrescue)
    def unrescued(self: Any, context: Any, instance: Any) -> Any:
        if CONF.serial_console.enabled:
            file = Path(libvirt_utils.get_instance_path(instance)) / FILE
            file.write_bytes(with_free_ports(file.read_bytes()))
        return unrescue(self, context, instance)

    return unrescued


def install() -> None:
    """Wrap upstream's method, in this process."""
    driver.LibvirtDriver.unrescue = on_free_ports(driver.LibvirtDriver.unrescue)
