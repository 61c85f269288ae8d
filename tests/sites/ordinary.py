"""Commands that run as an ordinary user although root runs the tests."""

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
"""A program that root runs in its own mount namespace, in which all users may use the interpreter and /dev/net/tun."""


def ordinary(scratch: Path) -> list[str | Path]:
    """Return the prefix of a command that makes it run as an ordinary user; empty if the tests run as one.

    Args:
        scratch: an empty directory.
    """
    if os.geteuid() != 0:
        return []
    base = Path(sys.base_prefix)
    closed = [path for path in reversed(base.parents) if not path.stat().st_mode & stat.S_IXOTH]
    return ["unshare", "--mount", "sh", "-c", textwrap.dedent(_NOBODY), "sh", base, closed[0] if closed else Path("/"), scratch]
