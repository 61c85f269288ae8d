"""A program that applies an overlay and ends, as if it was killed, at a given system call.

dying_apply.py DIRECTORY N
"""

import os
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from small_machines import quiet

from atoll.cloudlet import apply, header, partial, source
from atoll.cloudlet.keys import SigningKey

directory, calls = Path(sys.argv[1]), iter(range(int(sys.argv[2]), -1, -1))
partial.EVERY_S = 0


def dying(function):
    def call(*arguments):
        if next(calls, 0) == 0:
            os._exit(9)
        return function(*arguments)

    return call


for module, name in ((os, "fsync"), (os, "pwrite"), (Path, "replace"), (Path, "rename")):
    setattr(module, name, dying(getattr(module, name)))
key = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32))
with source.opened(str(directory / "overlay"), sys.stdin.buffer) as opened:
    found = header.read_header(opened.read, [key.trusted], opened.name)
    apply.apply(opened, found, directory / "base", directory / "launch", quiet)
