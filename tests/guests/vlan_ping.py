"""Ping an address on a VLAN by ARP and one ICMP echo with the tag, for hosts whose kernel lacks VLANs.

Run as: vlan_ping.py DEVICE VLAN OWN_MAC OWN_ADDRESS ADDRESS
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable

SOL_PACKET, PACKET_AUXDATA, TAGGED = 263, 8, 0x10


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def main(device: str, vlan: int, mac: bytes, own: bytes, other: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        raw.bind((device, 0))
        raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        raw.settimeout(0.5)

        def ask(to: bytes, kind: int, body: bytes, match: Callable[[bytes], bool]) -> bytes:
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                raw.send(to + mac + struct.pack("!HHH", 0x8100, vlan, kind) + body)
                again = time.monotonic() + 0.5
                try:
                    while time.monotonic() < again:
                        data, ancillary, _flags, _address = raw.recvmsg(2000, 100)
                        status, _len, _snap, _mac, _net, tag, _kind = struct.unpack("IIIHHHH", ancillary[0][2])
                        if status & TAGGED and tag & 0xFFF == vlan and match(data):
                            return data
                except TimeoutError:
                    continue
            raise SystemExit("no answer")

        request = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + mac + own + bytes(6) + other
        answer = ask(
            b"\xff" * 6, 0x806, request, lambda data: data[12:14] == b"\x08\x06" and data[20:22] == b"\0\2" and data[28:32] == other
        )
        echo = bytearray(struct.pack("!BBHHH", 8, 0, 0, 77, 1) + b"x" * 16)
        echo[2:4] = struct.pack("!H", checksum(bytes(echo)))
        header = bytearray(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(echo), 1, 0, 64, 1, 0, own, other))
        header[10:12] = struct.pack("!H", checksum(bytes(header)))
        ask(answer[22:28], 0x800, bytes(header + echo), lambda data: data[23] == 1 and data[34] == 0 and data[26:30] == other)


if __name__ == "__main__":
    device, vlan, mac, *addresses = sys.argv[1:]
    main(device, int(vlan), bytes.fromhex(mac.replace(":", "")), *map(socket.inet_aton, addresses))
