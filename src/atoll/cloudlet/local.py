"""Gateways on the local network, found by DNS-SD and verified by their certificates.

Everybody on the network can announce anything. So only an address is taken from an announcement. The gateway must prove by TLS that it has
the key of a site's certificate, which the cloud's certificate authority has signed, or whose fingerprint the user has confirmed. The name
of the site comes from the certificate, and the URL over the connection that it protects.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from zeroconf import BadTypeInNameException, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

from atoll.errors import AtollError
from atoll.identifiers import ANNOUNCEMENT, DNS_SD_TYPE
from atoll.local_network import addresses_on, closed, opened

MOST_FOUND = 256
"""Greatest number of announcements that are looked at; anybody on the network can make more."""

MOST_ADDRESSES = 4
"""Greatest number of addresses of one announcement that are tried."""

AT_ONCE = 64
"""Number of gateways that are verified at the same time."""

ANSWER_S = 5.0
"""Seconds for a gateway to prove itself and to answer, at any of its addresses. So the greatest number of false ones costs 20 s."""

MOST_BYTES = 16 << 10
"""Greatest size of a gateway's answer in bytes."""

_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,255}/identity/v3")
_SITE = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]{0,255}")


@dataclass(frozen=True)
class LocalSite:
    """A site whose gateway is on the local network, or has been announced there, and has proved itself.

    Attributes:
        site: the name of the site, from the certificate.
        cloud: the name of the cloud.
        region: the region of the cloud's catalogue.
        url: the URL of Keystone through the gateway.
        address: the address at which the gateway has proved itself.
        port: the gateway's peer port.
        fingerprint: the SHA-256 of the certificate, in hexadecimal.
        trusted: `authority` or `fingerprint`: why the certificate is trusted.
        connect_ms: the milliseconds that the connection took.
    """

    site: str
    cloud: str
    region: str
    url: str
    address: str
    port: int
    fingerprint: str
    trusted: str
    connect_ms: float


@dataclass(frozen=True)
class Stranger:
    """An announcement of a gateway that has not proved itself.

    Attributes:
        name: the name of the announcement, which may be false.
        address: the address; empty if the announcement has none that can be used.
        port: the port.
        fingerprint: the SHA-256 of the certificate, in hexadecimal; empty if there is no certificate.
        reason: why the gateway is not trusted.
    """

    name: str
    address: str
    port: int
    fingerprint: str
    reason: str


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        sites: the sites that have proved themselves, the nearest first.
        strangers: the other announcements.
    """

    sites: tuple[LocalSite, ...]
    strangers: tuple[Stranger, ...]

    def data(self) -> dict[str, Any]:
        """Return the result, ready for `json.dumps`."""
        return {"sites": [asdict(each) for each in self.sites], "untrusted": [asdict(each) for each in self.strangers]}


class _Refused(Exception):
    """A gateway has not proved itself.

    Args:
        reason: the reason.
        fingerprint: the fingerprint of its certificate; empty if it has none.
    """

    def __init__(self, reason: str, fingerprint: str = "") -> None:
        super().__init__(reason)
        self.fingerprint = fingerprint


class LocalSearch:
    """A search on a local network.

    Args:
        authorities: the files with the certificates of authorities (PEM) that are trusted.
        fingerprints: the fingerprints (SHA-256) that the user has confirmed, in hexadecimal, with or without colons.

    Raises:
        AtollError: `cloudlet.key`: a file has no certificate, or a fingerprint is malformed.
    """

    def __init__(self, authorities: Sequence[Path] = (), fingerprints: Collection[str] = ()) -> None:
        self._confirmed = {_fingerprint(each) for each in fingerprints}
        self._by_authority = _context() if authorities else None
        for path in authorities:
            assert self._by_authority is not None
            self._by_authority.verify_mode = ssl.CERT_REQUIRED
            try:
                self._by_authority.load_verify_locations(path)
            except (OSError, ssl.SSLError) as error:
                raise AtollError("cloudlet.key", f"{path}: expected the certificate of an authority (PEM): {error.strerror}") from None
        self._turns = asyncio.Semaphore(AT_ONCE)

    def find(self, network: str = "", seconds: float = 3.0) -> Found:
        """Search a local network.

        Args:
            network: the name of an interface, or a network such as 10.1.0.0/16; empty for all interfaces but loopback.
            seconds: the seconds to wait for announcements.

        Raises:
            AtollError: `discovery.network`: the network can't be used.
        """
        return asyncio.run(self._find(network, seconds))

    async def _find(self, network: str, seconds: float) -> Found:
        announced = await browse(network, seconds)
        results = await asyncio.gather(*(self._verified(each) for each in announced))
        sites = {each.fingerprint: each for each in results if isinstance(each, LocalSite)}
        nearest = sorted(sites.values(), key=lambda each: each.connect_ms)
        return Found(tuple(nearest), tuple(each for each in results if isinstance(each, Stranger)))

    async def _verified(self, announced: Announcement) -> LocalSite | Stranger:
        addresses = announced.addresses[:MOST_ADDRESSES]
        if not addresses:
            return Stranger(announced.name, "", announced.port, "", "the announcement has no address of another machine")
        async with self._turns:
            end = asyncio.get_running_loop().time() + ANSWER_S
            results = await asyncio.gather(*(self._tried(announced, address, end) for address in addresses))
        proved = [each for each in results if isinstance(each, LocalSite)]
        return proved[0] if proved else results[0]

    async def _tried(self, announced: Announcement, address: str, end: float) -> LocalSite | Stranger:
        """Return the site of a gateway at one address of an announcement, if it proves itself until a loop time in seconds."""
        stranger = Stranger(announced.name, address, announced.port, "", "")
        try:
            async with asyncio.timeout_at(end):
                return await self._proved(address, announced.port)
        except _Refused as refused:
            return replace(stranger, fingerprint=refused.fingerprint, reason=str(refused))
        except TimeoutError:
            return replace(stranger, reason=f"it does not answer within {ANSWER_S:.0f} s")
        except (OSError, ValueError) as error:
            return replace(stranger, reason=f"it can't be reached: {getattr(error, 'strerror', None) or type(error).__name__}")

    async def _proved(self, address: str, port: int) -> LocalSite:
        """Return the site of a gateway that proves itself.

        Raises:
            _Refused: it does not.
            OSError: it can't be reached.
        """
        why = "no authority and no fingerprint is trusted"
        if self._by_authority is not None:
            try:
                return await self._asked(address, port, self._by_authority, "authority")
            except ssl.SSLCertVerificationError:
                why = "no trusted authority has signed its certificate"
        elif self._confirmed:
            why = "its fingerprint is not a confirmed one"
        return await self._asked(address, port, _context(), "fingerprint", why)

    async def _asked(self, address: str, port: int, context: ssl.SSLContext, trusted: str, why: str = "") -> LocalSite:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname="", limit=MOST_BYTES)
        connect_ms = round((time.monotonic() - began) * 1000, 1)
        try:
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
            mark = hashlib.sha256(certificate).hexdigest()
            if context.verify_mode is ssl.CERT_NONE and mark not in self._confirmed:
                raise _Refused(why, mark)
            site = _site_of(certificate)
            if not site:
                raise _Refused("its certificate is not one of a site", mark)
            writer.write(f"GET {ANNOUNCEMENT} HTTP/1.0\r\nHost: {site}\r\n\r\n".encode())
            await writer.drain()
            said = _said(await _whole(reader))
            if said is None or said["site"] != site:
                raise _Refused("it does not tell its URL: its announcement may be switched off", mark)
            return LocalSite(site, said["cloud"], said["region"], said["url"], address, port, mark, trusted, connect_ms)
        finally:
            writer.transport.abort()


@dataclass(frozen=True)
class Announcement:
    """An announcement, of which only the addresses and the port are used.

    Attributes:
        name: the name.
        addresses: the addresses that may be those of another machine.
        port: the port.
    """

    name: str
    addresses: tuple[str, ...]
    port: int


async def browse(network: str, seconds: float) -> list[Announcement]:
    """Return the announcements of gateways that arrive within some seconds, at most `MOST_FOUND`.

    Raises:
        AtollError: `discovery.network`: the network can't be used.
    """
    names: dict[str, None] = {}

    def changed(name: str, state_change: ServiceStateChange, **_more: Any) -> None:
        if state_change is ServiceStateChange.Removed:
            names.pop(name, None)
        elif len(names) < MOST_FOUND:
            names[name] = None

    sockets = await opened(addresses_on(network))
    try:
        browser = AsyncServiceBrowser(sockets, DNS_SD_TYPE, handlers=[changed])
        await asyncio.sleep(seconds)
        await browser.async_cancel()
        infos = {name: _service(name) for name in sorted(names)}
        await asyncio.gather(*(info.async_request(sockets, 1000) for info in infos.values() if info is not None))
    finally:
        await closed(sockets)
    return [_announcement(name, info) for name, info in infos.items()]


def _service(name: str) -> AsyncServiceInfo | None:
    """Return the service that a name announces; `None` for a malformed name, such as one with control characters."""
    with suppress(BadTypeInNameException):
        return AsyncServiceInfo(DNS_SD_TYPE, name)
    return None


def _announcement(name: str, info: AsyncServiceInfo | None) -> Announcement:
    shown = _plain(name.removesuffix(f".{DNS_SD_TYPE}"))
    return (
        Announcement(shown, (), 0)
        if info is None
        else Announcement(shown, tuple(filter(_is_of_another, info.parsed_addresses())), info.port or 0)
    )


def _is_of_another(address: str) -> bool:
    """Return whether an address can be that of another machine: a stranger could announce this machine's own services, or all hosts.

    Sites have IPv4 addresses, and the system connects to 127.0.0.1 for an IPv6 address such as ::ffff:127.0.0.1.
    """
    found = ip_address(address)
    return isinstance(found, IPv4Address) and not (
        found.is_loopback or found.is_multicast or found.is_unspecified or found.is_link_local or address == "255.255.255.255"
    )


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:63]


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the name of the site comes from the certificate
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _fingerprint(text: str) -> str:
    plain = text.replace(":", "").strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise AtollError("cloudlet.key", f"{text!r:.80} is not a fingerprint: expected 64 hexadecimal digits (SHA-256)")
    return plain


def _site_of(certificate: bytes) -> str:
    """Return the site of a gateway's certificate; empty for any other certificate, such as that of a compute site."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        common = [each.value for each in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, x509.ExtensionNotFound):
        return ""
    # The common name of a compute site's certificate has more parts than its name (`mesh.certificates`).
    return str(common[0]) if names == common and len(names) == 1 and _SITE.fullmatch(str(common[0])) else ""


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """Return a gateway's answer.

    Raises:
        _Refused: it is too large.
    """
    answer = b""
    while piece := await reader.read(MOST_BYTES):
        answer += piece
        if len(answer) > MOST_BYTES:
            raise _Refused("its answer is too large")
    return answer


def _said(answer: bytes) -> dict[str, str] | None:
    """Return the fields of a gateway's answer; `None` if it is malformed or an error."""
    head, _mark, body = answer.partition(b"\r\n\r\n")
    if not re.match(rb"HTTP/1\.[01] 200 ", head):
        return None
    try:
        found = json.loads(body)
        said = {name: found[name] for name in ("cloud", "site", "region", "url")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(value, str) and _TEXT.fullmatch(value) for value in said.values()):
        return None
    return said if _URL.fullmatch(said["url"]) else None
