"""A control site's list of its compute sites: whose certificates open its bus, and its internal APIs on its gateway's peer port.

The list is a file of the control site. It is written when sites are made, removed or revoked, and read by the bus's router and the gateway,
which follow it at once. A certificate that the list does not have opens nothing, whoever signed it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from atoll.files import write_private

FILE = "computes.json"
"""Below the control site's directory, and not among its configuration: the list may change while those who read it run."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComputeSite:
    """A compute site, as its control site knows it.

    Attributes:
        name: of the site.
        common_name: of its certificate; no other certificate has it.
        fingerprint: SHA-256 of its certificate, in hexadecimal.
        realm: its number on the bus.
        revoked: whether the certificate counts no more.
    """

    name: str
    common_name: str
    fingerprint: str
    realm: int
    revoked: bool = False

    @classmethod
    def of(cls, name: str, certificate: str, realm: int) -> ComputeSite:
        """Return the entry of a site.

        Args:
            name: of the site.
            certificate: in PEM.
            realm: its number on the bus.
        """
        read = x509.load_pem_x509_certificate(certificate.encode("ascii"))
        (common_name,) = (str(each.value) for each in read.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        return cls(name, common_name, read.fingerprint(hashes.SHA256()).hex(), realm)

    def without_access(self) -> ComputeSite:
        """Return the entry with its certificate revoked."""
        return replace(self, revoked=True)


def load(file: Path) -> tuple[ComputeSite, ...]:
    """Return the list; empty if there is none, or if it can't be read, which is logged."""
    try:
        return tuple(ComputeSite(**entry) for entry in json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        LOG.error("no compute site is let in, because %s can't be read: %s", file, error)  # noqa: TRY400 - it says all
        return ()


def save(file: Path, sites: Iterable[ComputeSite]) -> None:
    """Write the list. A certificate that was revoked before stays so."""
    revoked = {site.fingerprint for site in load(file) if site.revoked}
    entries = [asdict(site) | {"revoked": site.revoked or site.fingerprint in revoked} for site in sites]
    write_private(file, json.dumps(entries, indent=2) + "\n")


def admitted(sites: Iterable[ComputeSite]) -> tuple[ComputeSite, ...]:
    """Return those of a list that were not revoked."""
    return tuple(site for site in sites if not site.revoked)


class Followed:
    """The list, read anew whenever the file has changed.

    Args:
        file: the list.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._state: tuple[int, int, int] | None = None
        self._names: dict[str, str] = {}

    def name_of(self, fingerprint: str) -> str | None:
        """Return the compute site whose certificate has a fingerprint (SHA-256, hexadecimal); `None` if it is of none, or revoked."""
        try:
            status = self._file.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            state = None
        if state != self._state:
            self._names = {site.fingerprint: site.name for site in admitted(load(self._file))}
            self._state = state
        return self._names.get(fingerprint)
