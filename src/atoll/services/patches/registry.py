"""The registry of all places where Atoll reaches into upstream.

It is data alone, and imports no upstream. `docs/reference/upstream.md` is generated from it. Tests compare it with the code (every write to
an upstream object has an entry), with the installed upstream (fingerprints) and with the tests that each entry names. The patches of other
packages than `services` are listed by name, because those packages cannot import this one.
"""

from __future__ import annotations

from atoll.services.patches.entries import (
    compute_site,
    elsewhere,
    glance,
    keystone,
    neutron,
    nova,
    nova_cloudlets,
    nova_statements,
    octavia,
    placement,
    shared,
    startup,
)
from atoll.services.patches.patch import Patch

PATCHES: tuple[Patch, ...] = (
    *shared.PATCHES,
    *keystone.PATCHES,
    *glance.PATCHES,
    *neutron.PATCHES,
    *nova.PATCHES,
    *nova_cloudlets.PATCHES,
    *nova_statements.PATCHES,
    *compute_site.PATCHES,
    *placement.PATCHES,
    *octavia.PATCHES,
    *elsewhere.PATCHES,
    *startup.PATCHES,
)
"""All entries; those of one distribution stand together."""
