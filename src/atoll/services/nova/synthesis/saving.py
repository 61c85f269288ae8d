"""The memory of a running guest is saved into a file, in which each page has a fixed place; the guest is stopped by that.

The guest's interfaces are detached first, because a guest keeps the MAC address that is in its memory. If the memory can't be saved, they
are attached again, and the guest goes on.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lxml import etree

from atoll.errors import AtollError
from atoll.services.nova.synthesis import hardware, save_image
from atoll.services.nova.synthesis.hardware import Hardware
from atoll.services.nova.synthesis.overlays import OverlayRefusal

try:
    import libvirt
except ImportError:  # a machine without real guests
    libvirt = None

DETACHED_S = 120.0
"""Seconds within which a guest must have released its interfaces."""

_LOOK_S = 0.1
_FORMAT = {"image_format": "sparse"}


def failed(message: str, hint: str) -> AtollError:
    """Return the error of a guest that can't be captured."""
    return AtollError("cloudlet.capture", message, hint)


def save(domain: Any, file: Path, detached_s: float | None = None) -> Hardware:
    """Detach the interfaces of a guest, save its memory, and erase the definition, which names the server and its owner, from the file.

    Args:
        domain: libvirt's domain, which runs.
        file: the file to make.
        detached_s: seconds within which the guest must have released its interfaces; `None` means `DETACHED_S`.

    Returns:
        The machine of the guest.

    Raises:
        AtollError: `cloudlet.capture`: the memory can't be saved; the guest goes on with its interfaces.
    """
    detached = hardware.interfaces(domain.XMLDesc(0))
    try:
        _detach(domain, DETACHED_S if detached_s is None else detached_s)
        found = hardware.describe(domain.XMLDesc(0))
        domain.saveParams({"file": str(file), **_FORMAT}, libvirt.VIR_DOMAIN_SAVE_PAUSED)
        save_image.define(file, "")
    except (libvirt.libvirtError, OverlayRefusal, AtollError) as error:
        with suppress(libvirt.libvirtError):
            _attach(domain, detached)
        if isinstance(error, AtollError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise failed(f"the guest's memory can't be saved: {reason}", "see the log of libvirt: `atoll logs`") from error
    return found


def _detach(domain: Any, within_s: float) -> None:
    """Detach all interfaces of a running guest, which has to release them.

    Raises:
        AtollError: `cloudlet.capture`: it does not release them in time.
        libvirtError: libvirt has failed.
    """
    for interface in etree.fromstring(domain.XMLDesc(0)).findall("devices/interface"):
        domain.detachDeviceFlags(etree.tostring(interface, encoding="unicode", with_tail=False), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    end = time.monotonic() + within_s
    while hardware.interfaces(domain.XMLDesc(0)):
        if time.monotonic() > end:
            hint = "wait until the guest has booted; its kernel must support hot plugging of PCI devices"
            raise failed("the guest does not release its network interfaces", hint)
        time.sleep(_LOOK_S)


def _attach(domain: Any, interfaces: list[str]) -> None:
    """Attach those of the given interfaces again that a guest that still runs lacks."""
    if domain.isActive():
        present = {_mac(each) for each in hardware.interfaces(domain.XMLDesc(0))}
        for each in interfaces:
            if _mac(each) not in present:
                domain.attachDeviceFlags(each, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _mac(interface: str) -> str:
    mac = etree.fromstring(interface).find("mac")
    return "" if mac is None else str(mac.get("address", ""))
