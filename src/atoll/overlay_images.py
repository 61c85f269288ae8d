"""The properties of bases and overlays in Glance, and the form in which a site sends the disk of a launch image to another site.

Clients, gateways and nova-compute read and write both. The disk is a sequence of records, each of them one range of the disk that may hold
data:

    offset  bytes  field
         0      8  offset in the disk, u64
         8      4  length of the range, u32: at most 1 MiB
        12      4  length of the compressed range, u32 16         the range, compressed by zstd

The last record has the size of the disk as its offset, and 0 as both lengths. Ranges are in order. All numbers are little-endian.
"""

from __future__ import annotations

import struct

BASE = "atoll_cloudlet_base"
"""Property of an overlay: the digest of its base, in hexadecimal. An image that has it is an overlay."""

BASE_IMAGE = "atoll_cloudlet_base_image"
"""Property of an overlay: the id of an image that is its base; only a hint."""

KEY = "atoll_cloudlet_key"
"""Property of an overlay: the names of keys, separated by commas; one of these keys has signed the overlay."""

TRUST = "atoll_cloudlet_trust"
"""Key in a server's metadata: the names of further keys that the server's creator trusts, separated by commas."""

DIGEST = "atoll_cloudlet_digest"
"""Property of a base: its digest, in hexadecimal."""

MACHINE = "atoll_cloudlet_machine"
"""Property of a base: the machine type of its description, if it has one."""

MEMORY = "atoll_cloudlet_memory"
"""Property of an overlay with memory: the size of its part `memory` in MiB; only a hint, because the signed overlay decides."""

EMPTY = "5d0b708774e3ddac1a66ae1f6219dd9c46e8e416ef7eb9815b2c4e77303bbcf9"
"""The digest of the empty base (`cloudlet.empty`). An overlay of the empty base holds a whole base, and needs no other image."""

PIECE = 1 << 20
"""Greatest number of bytes of a range."""

RECORD = struct.Struct("<QII")
"""The head of a record."""
