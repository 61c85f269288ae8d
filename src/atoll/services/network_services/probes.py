"""What of Linux a network service needs: asked of the kernel itself, without leaving anything behind."""

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
    """True if the kernel can do IPsec's encryption (ESP): a kernel may have all of XFRM but that.

    Asked in a network namespace of its own, so that the trial's security association goes with it.
    """
    asked = ["unshare", "--net", "ip", "xfrm", "state", "add", *_SECURITY_ASSOCIATION]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@cache
def kernel_filters_bridges() -> bool:
    """True if iptables sees what goes through the kernel's bridges, or the module for that can be loaded."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--quiet", "br_netfilter"], capture_output=True, check=False)
    return _BRIDGES.exists()
