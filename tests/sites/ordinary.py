"""How a test does something as an ordinary user, though root runs it."""

import os
import stat
import sys
import textwrap
from pathlib import Path

_NOBODY = """
    set -e
    base=$1; top=$2; scratch=$3; shift 3
    mkdir "$scratch/base" && mount --bind "$base" "$scratch/base"
    if [ "$top" != / ]; then
        mount -t tmpfs -o mode=755 tmpfs "$top" && mkdir -p "$base" && mount --bind "$scratch/base" "$base"
    fi
    mknod "$scratch/tun" c 10 200 && chmod 666 "$scratch/tun" && mount --bind "$scratch/tun" /dev/net/tun
    exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"
"""
"""Run by root in a mount namespace of its own: an interpreter and /dev/net/tun that nobody else could open are opened to everybody."""


def ordinary(scratch: Path) -> list[str | Path]:
    """What goes before a command that is to run as an ordinary user: nothing, if one runs the tests.

    Args:
        scratch: an empty directory.
    """
    if os.geteuid() != 0:
        return []
    base = Path(sys.base_prefix)
    closed = [path for path in reversed(base.parents) if not path.stat().st_mode & stat.S_IXOTH]
    return ["unshare", "--mount", "sh", "-c", textwrap.dedent(_NOBODY), "sh", base, closed[0] if closed else Path("/"), scratch]
