"""Signatures of sites: ECDSA on P-256 with SHA-256 (FIPS 186-5), by the key of the site's TLS certificate."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

_ALGORITHM = ec.ECDSA(hashes.SHA256())


class Signer:
    """A site's private key for signatures."""

    def __init__(self, key_pem: bytes) -> None:
        """Read the private key.

        Args:
            key_pem: a private key on P-256, PEM, not encrypted.

        Raises:
            ValueError: the text is not an unencrypted P-256 key.
        """
        key = load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("the key is not on the curve P-256, on which sites sign")  # noqa: TRY004 - the content of a file is wrong
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data` (DER, about 71 bytes)."""
        return self._key.sign(data, _ALGORITHM)


def verify(certificate: x509.Certificate, data: bytes, signature: bytes) -> bool:
    """Return whether `signature` of `data` was made with the key of `certificate`."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return False
    try:
        key.verify(signature, data, _ALGORITHM)
    except InvalidSignature:
        return False
    return True


def fingerprint(cert_pem: str | bytes) -> str:
    """Return the SHA-256 of a certificate's DER form, in hexadecimal.

    Raises:
        ValueError: the text is not a certificate.
    """
    pem = cert_pem.encode() if isinstance(cert_pem, str) else cert_pem
    return hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).hexdigest()
