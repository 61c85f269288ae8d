"""The port of a guest's serial console, when it is unrescued.

Nova lets go of the port when it rescues a guest (`LibvirtDriver._destroy` in nova/virt/libvirt/driver.py), and may give it to another one.
To unrescue, it starts the guest as it was described before, with that port: if another guest has it by then, QEMU does not start. So the
description gets a port that is free.
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
"""In the guest's directory: what libvirt knew of it before."""


def renewed(description: bytes) -> bytes:
    """A description of a guest in which each serial port that others connect to is one that is free.

    Args:
        description: libvirt's XML.

    Raises:
        SocketPortRangeExhaustedException: there is none.
    """
    domain = etree.fromstring(description)
    taken: dict[tuple[str, str], str] = {}
    # A console is the first serial port once more.
    for source in domain.xpath("devices/*[self::serial or self::console][@type='tcp']/source[@mode='bind']"):
        place = source.get("host"), source.get("service")
        if place not in taken:
            taken[place] = str(serial.acquire_port(place[0]))
        source.set("service", taken[place])
    return bytes(etree.tostring(domain))


def on_free_ports(unrescue: Callable[..., Any]) -> Callable[..., Any]:
    """`LibvirtDriver.unrescue`, with such a description.

    Args:
        unrescue: upstream's.
    """

    @wraps(unrescue)
    def unrescued(self: Any, context: Any, instance: Any) -> Any:
        if CONF.serial_console.enabled:
            file = Path(libvirt_utils.get_instance_path(instance)) / FILE
            file.write_bytes(renewed(file.read_bytes()))
        return unrescue(self, context, instance)

    return unrescued


def install() -> None:
    """Replace upstream's."""
    driver.LibvirtDriver.unrescue = on_free_ports(driver.LibvirtDriver.unrescue)
