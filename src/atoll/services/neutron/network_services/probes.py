"""Probes of the kernel's support for network services, which leave nothing behind."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

_BRIDGES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")

_SECURITY_ASSOCIATION = (
    *("src", "127.0.0.1", "dst", "127.0.0.1", "proto", "esp", "spi", "0x100", "mode", "tunnel"),
    *("auth", "hmac(sha1)", f"0x{'01' * 20}", "enc", "cbc(aes)", f"0x{'01' * 16}"),
)


@cache
def kernel_encrypts() -> bool:
    """Return whether the kernel can encrypt IPsec packets (ESP); a kernel may have XFRM without this part.

    The probe runs in a network namespace of its own, so that its security association vanishes with the namespace.
    """
    asked = ["unshare", "--net", "ip", "xfrm", "state", "add", *_SECURITY_ASSOCIATION]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@cache
def kernel_filters_bridges() -> bool:
    """Return whether iptables sees packets that cross the kernel's bridges; load the module `br_netfilter` for it if possible."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--quiet", "br_netfilter"], capture_output=True, check=False)
    return _BRIDGES.exists()
