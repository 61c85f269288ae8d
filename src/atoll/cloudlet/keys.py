"""Signatures of overlays, by a separate Ed25519 key or by the P-256 key of a site's certificate.

An overlay holds no key and no certificate: the reader names the keys that it trusts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, load_pem_public_key

from atoll.cloudlet.failures import unusable
from atoll.cloudlet.guarded import open_regular
from atoll.errors import AtollError

ED25519, P256 = 1, 2
"""Numbers of the signature algorithms: Ed25519 (RFC 8032), and ECDSA on P-256 with SHA-256, stored as two 32-byte big-endian numbers."""

SIGNATURE = 64
"""Length in bytes of a signature, with either algorithm."""

_ECDSA = ec.ECDSA(hashes.SHA256())
_LARGEST = 100_000
_HINT = "`openssl genpkey -algorithm ed25519 -out key.pem` makes a key, `openssl pkey -in key.pem -pubout` prints its public half"

_Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_Public = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


class SigningKey:
    """A private key that signs overlays.

    Args:
        key: an Ed25519 key, or a key on the curve P-256.
    """

    def __init__(self, key: _Private) -> None:
        self._key = key
        self.algorithm = ED25519 if isinstance(key, ed25519.Ed25519PrivateKey) else P256

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`: `SIGNATURE` bytes."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        r, s = decode_dss_signature(self._key.sign(data, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    @property
    def trusted(self) -> TrustedKey:
        """The public half of the key."""
        return TrustedKey(self._key.public_key())


class TrustedKey:
    """A public key whose signatures the reader trusts.

    Args:
        key: an Ed25519 key, or a key on the curve P-256.
    """

    def __init__(self, key: _Public) -> None:
        self._key = key

    def verifies(self, algorithm: int, data: bytes, signature: bytes) -> bool:
        """Return whether this key made `signature` over `data` with `algorithm`."""
        try:
            if algorithm == ED25519 and isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, data)
                return True
            if algorithm == P256 and isinstance(self._key, ec.EllipticCurvePublicKey):
                numbers = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
                self._key.verify(encode_dss_signature(*numbers), data, _ECDSA)
                return True
        except InvalidSignature:
            pass
        return False

    @property
    def name(self) -> str:
        """The key as text: `ed25519:` or `p256:`, followed by its bytes in hexadecimal; a P-256 key is a compressed point."""
        if isinstance(self._key, ed25519.Ed25519PublicKey):
            return f"ed25519:{self._key.public_bytes_raw().hex()}"
        return f"p256:{self._key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint).hex()}"


def find_signer(keys: Iterable[TrustedKey], algorithm: int, data: bytes, signature: bytes) -> int | None:
    """Return the position of the first key that made `signature` over `data` with `algorithm`; `None` if no key made it."""
    return next((position for position, key in enumerate(keys) if key.verifies(algorithm, data, signature)), None)


def read_signing_key(path: Path) -> SigningKey:
    """Return a private key, read from PEM without a password.

    Raises:
        AtollError: `cloudlet.key`: the file holds no such key; `cloudlet.unusable`: the file can't be read.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _bad(path, "private key") from None
    if isinstance(key, ed25519.Ed25519PrivateKey) or (isinstance(key, ec.EllipticCurvePrivateKey) and _is_p256(key)):
        return SigningKey(key)
    raise _bad(path, "private key")


def read_trusted_key(path: Path) -> TrustedKey:
    """Return a public key, read from PEM of a key or a certificate.

    Raises:
        AtollError: as for `read_signing_key`.
    """
    data = _read(path)
    try:
        if b"BEGIN CERTIFICATE" in data:
            key = x509.load_pem_x509_certificate(data).public_key()
        else:
            found = load_pem_public_key(data)
            if not isinstance(found, _Public):
                raise _bad(path, "public key or certificate")
            key = found
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise _bad(path, "public key or certificate") from None
    if isinstance(key, ed25519.Ed25519PublicKey) or (isinstance(key, ec.EllipticCurvePublicKey) and _is_p256(key)):
        return TrustedKey(key)
    raise _bad(path, "public key or certificate")


def parse_name(text: str) -> TrustedKey:
    """Return the key that `TrustedKey.name` has named.

    Raises:
        AtollError: `cloudlet.key`: the text is not the name of a key.
    """
    kind, _, digits = text.partition(":")
    try:
        data = bytes.fromhex(digits)
        if kind == "ed25519":
            return TrustedKey(ed25519.Ed25519PublicKey.from_public_bytes(data))
        if kind == "p256":
            return TrustedKey(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data))
    except (ValueError, TypeError):
        pass
    message = f"{text[:200]!r} is not the name of a key: expected ed25519: or p256: and hexadecimal digits"
    raise AtollError("cloudlet.key", message, "`atoll cloudlet upload` prints the name of a key")


def _is_p256(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bool:
    return isinstance(key.curve, ec.SECP256R1)


def _read(path: Path) -> bytes:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise unusable(path, error) from None


def _bad(path: Path, kind: str) -> AtollError:
    return AtollError("cloudlet.key", f"{path} holds no {kind}: expected Ed25519 or P-256 in PEM, without a password", _HINT)
