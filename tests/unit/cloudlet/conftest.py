"""Small virtual machines: a base, a guest that differs from it in every way, and keys."""

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from small_machines import PAGE, Machine, random_pages

from atoll.cloudlet.keys import SigningKey


@pytest.fixture
def key() -> SigningKey:
    return SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32))


@pytest.fixture
def machine(tmp_path: Path, key: SigningKey) -> Machine:
    """Return a base with a disk and memory, and a guest with pages of each kind; the last pages are cut off."""
    seeded = random.Random(1)
    disk, memory = random_pages(seeded, 40), random_pages(seeded, 30)
    disk[5:9] = [bytes(PAGE)] * 4
    made = Machine(tmp_path, key, {"disk": b"".join(disk)[:-100], "memory": b"".join(memory)})
    disk[2], disk[3] = memory[4], disk[30]  # copies from the base
    disk[6] = disk[7] = seeded.randbytes(PAGE)  # a new page, twice
    disk[20] = bytes(PAGE)
    memory[1] = memory[1][:100] + b"changed" + memory[1][107:]
    memory[9] = seeded.randbytes(PAGE)
    disk[25] = memory[9]
    memory += [b"x" * PAGE] * 3
    made.guest(disk=b"".join(disk)[:-100], memory=b"".join(memory)[:-10], device=b"state" * 50)
    return made
