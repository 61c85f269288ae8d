"""A control site's list of its compute sites, whose certificates admit them to its bus and, on its gateway's peer port, to internal APIs.

The list is a file of the control site. It is written when sites are created, removed or revoked. The bus's router and the gateway read it,
and apply its changes immediately. A certificate that is not on the list gives no access, whoever signed it.
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
"""The file's name in the control site's directory. It is not part of the configuration: it may change while its readers run."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComputeSite:
    """An entry of a compute site in its control site's list.

    Attributes:
        name: the site's name.
        common_name: the common name of its certificate, which no other certificate has.
        fingerprint: the SHA-256 of its certificate, in hexadecimal.
        realm: the site's number on the bus.
        revoked: whether the certificate is revoked.
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
            name: the site's name.
            certificate: the site's certificate, in PEM.
            realm: the site's number on the bus.
        """
        read = x509.load_pem_x509_certificate(certificate.encode("ascii"))
        (common_name,) = (str(each.value) for each in read.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        return cls(name, common_name, read.fingerprint(hashes.SHA256()).hex(), realm)

    def without_access(self) -> ComputeSite:
        """Return the entry with its certificate revoked."""
        return replace(self, revoked=True)


def load(file: Path) -> tuple[ComputeSite, ...]:
    """Return the list; empty if the file does not exist, or can't be read, which is logged."""
    try:
        return tuple(ComputeSite(**entry) for entry in json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        LOG.error("no compute site is admitted, because %s can't be read: %s", file, error)  # noqa: TRY400 - the error says it all
        return ()


def save(file: Path, sites: Iterable[ComputeSite]) -> None:
    """Write the list. A certificate that is revoked in the old list stays revoked."""
    revoked = {site.fingerprint for site in load(file) if site.revoked}
    entries = [asdict(site) | {"revoked": site.revoked or site.fingerprint in revoked} for site in sites]
    write_private(file, json.dumps(entries, indent=2) + "\n")


def admitted(sites: Iterable[ComputeSite]) -> tuple[ComputeSite, ...]:
    """Return the entries of a list that are not revoked."""
    return tuple(site for site in sites if not site.revoked)


class ComputeSiteList:
    """The list of compute sites, read again whenever the file has changed.

    Args:
        file: the list.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._state: tuple[int, int, int] | None = None
        self._admitted: tuple[ComputeSite, ...] = ()

    def name_of(self, fingerprint: str) -> str | None:
        """Return the name of the compute site whose certificate has a fingerprint (SHA-256, hexadecimal); `None` if unknown or revoked."""
        return next((site.name for site in self._read() if site.fingerprint == fingerprint), None)

    def name_of_realm(self, realm: int) -> str | None:
        """Return the name of the compute site with a realm (its number on the bus); `None` for an unknown or revoked site."""
        return next((site.name for site in self._read() if site.realm == realm), None)

    def _read(self) -> tuple[ComputeSite, ...]:
        try:
            status = self._file.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            state = None
        if state != self._state:
            self._admitted = admitted(load(self._file))
            self._state = state
        return self._admitted
