import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from documents import key_of

from atoll.mesh.signing import Signer, fingerprint, verify


def test_a_signature_is_of_one_key_for_one_text() -> None:
    pem, certificate = key_of("paris")
    signature = Signer(pem).sign(b"text")
    assert verify(certificate, b"text", signature)
    assert not verify(certificate, b"text!", signature)
    assert not verify(key_of("lyon")[1], b"text", signature)


@pytest.mark.parametrize("signature", [b"", b"\x00" * 71, b"\x30\x06\x02\x01\x00\x02\x01\x00"])
def test_malformed_signature_does_not_verify(signature: bytes) -> None:
    assert not verify(key_of("paris")[1], b"text", signature)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()])
def test_a_key_of_another_kind_is_not_taken(key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(ValueError, match="P-256"):
        Signer(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_a_fingerprint_is_the_hash_of_the_der_form() -> None:
    certificate = key_of("paris")[1]
    expected = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    assert fingerprint(certificate.public_bytes(Encoding.PEM)) == fingerprint(certificate.public_bytes(Encoding.PEM).decode()) == expected
