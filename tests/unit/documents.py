"""Sites with keys and documents of their own, for tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from atoll.mesh.clock import HybridClock
from atoll.mesh.document import Change, Document, Rule
from atoll.mesh.parts import pack_parts
from atoll.mesh.signing import Signer
from atoll.mesh.store import Store

START_MS = 1_800_000_000_000
_ROOT = Path(tempfile.mkdtemp(prefix="atoll-documents-"))
_NUMBERS = itertools.count()
atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)


@functools.cache
def key_of(name: str) -> tuple[bytes, x509.Certificate]:
    """Return a private key (PEM) and a certificate for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, builder.sign(key, hashes.SHA256())


def certificate_of(name: str) -> x509.Certificate | None:
    """Return the certificate of a site; none for the one called `stranger`."""
    return None if name == "stranger" else key_of(name)[1]


def _close(store: Store) -> None:
    with contextlib.suppress(sqlite3.ProgrammingError):  # the garbage collector runs in any thread
        store.close()


class Clock:
    """The time of day, as a test sets it."""

    def __init__(self, ms: int = START_MS) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


class Site:
    """A document, its updates for other sites, and the changes that it reported to its readers."""

    def __init__(self, name: str, path: Path | None = None, rules: Mapping[str, Rule] | None = None, clock: Clock | None = None) -> None:
        self.name = name
        self.path = path or _ROOT / str(next(_NUMBERS)) / "document.db"
        self.path.parent.mkdir(exist_ok=True)
        self.clock = clock or Clock()
        self.rules = rules or {}
        self.open()

    def open(self) -> None:
        self.store = Store(self.path)
        weakref.finalize(self, _close, self.store)
        clock = HybridClock(self.clock)
        self.document = Document(self.store, self.name, Signer(key_of(self.name)[0]), clock, certificate_of, self.rules)
        self.updates: list[bytes] = []
        self.touched: list[frozenset[tuple[str, str]]] = []
        self.document.on_update(lambda part: self.updates.append(pack_parts([part])))
        self.document.on_change(self.touched.append)

    def restart(self) -> None:
        self.store.close()
        self.open()

    def lose_disk(self) -> None:
        self.store.close()
        for file in self.path.parent.iterdir():
            file.unlink()
        self.open()

    def write(self, key: str, kind: str = "thing", **fields: object) -> bytes:
        """Write one record; return the update."""
        self.clock.ms += 1
        self.document.write([Change(kind, key, fields)])
        return self.updates[-1]

    def catch_up(self, other: Site) -> None:
        self.document.merge(other.document.difference(self.document.state_vector()))

    def view(self) -> dict[tuple[str, str], tuple[dict[str, object], dict[str, int], dict[str, str]]]:
        """Return all that readers can see."""
        return {
            (kind, record.key): (record.fields, record.stamps, record.authors)
            for kind in self.document.kinds()
            for record in self.document.records(kind, deleted=True)
        }
