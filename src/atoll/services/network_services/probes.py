"""What of Linux a network service needs: asked of the kernel itself, without leaving anything behind."""

from __future__ import annotations

import subprocess
from functools import cache

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
