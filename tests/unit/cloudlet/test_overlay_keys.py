"""Keys for overlays: Ed25519 and P-256, in files."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from atoll.cloudlet.keys import SIGNATURE, parse_name, read_signing_key, read_trusted_key
from atoll.errors import AtollError


def save(path: Path, key, password: bytes | None = None) -> tuple[Path, Path]:
    """Write a key and its public half."""
    private, public = path / "private.pem", path / "public.pem"
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.mark.parametrize(
    "make", [ed25519.Ed25519PrivateKey.generate, lambda: ec.generate_private_key(ec.SECP256R1())], ids=["Ed25519", "P-256"]
)
def test_signature(tmp_path, make):
    private, public = save(tmp_path, make())
    key, trusted = read_signing_key(private), read_trusted_key(public)
    signature = key.sign(b"data")
    assert len(signature) == SIGNATURE
    assert trusted.verifies(key.algorithm, b"data", signature)
    assert not trusted.verifies(key.algorithm, b"Data", signature)
    assert not trusted.verifies(3 - key.algorithm, b"data", signature)
    assert not trusted.verifies(key.algorithm, b"data", bytes(SIGNATURE))


@pytest.mark.parametrize(
    "make", [ed25519.Ed25519PrivateKey.generate, lambda: ec.generate_private_key(ec.SECP256R1())], ids=["Ed25519", "P-256"]
)
def test_name_of_a_key_is_the_key(tmp_path, make):
    private, public = save(tmp_path, make())
    key, trusted = read_signing_key(private), read_trusted_key(public)
    again = parse_name(trusted.name)
    assert again.name == trusted.name == key.trusted.name
    assert again.verifies(key.algorithm, b"data", key.sign(b"data"))
    assert not again.verifies(key.algorithm, b"Data", key.sign(b"data"))


@pytest.mark.parametrize(
    "name", ["", "ed25519", "ed25519:", "ed25519:00", "rsa:" + "0" * 64, "p256:02" + "0" * 63, "p256:05" + "1" * 64, "x\n:y"]
)
def test_name_of_no_key(name):
    with pytest.raises(AtollError, match="is not the name of a key") as caught:
        parse_name(name)
    assert "\n" not in caught.value.message


def test_certificate_of_a_site(tmp_path):
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "brest")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    (tmp_path / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    signer = read_signing_key(save(tmp_path, key)[0])
    assert read_trusted_key(tmp_path / "cert.pem").verifies(signer.algorithm, b"data", signer.sign(b"data"))


@pytest.mark.parametrize(
    "make",
    [lambda: ec.generate_private_key(ec.SECP384R1()), lambda: rsa.generate_private_key(65537, 2048), None],
    ids=["P-384", "RSA", "no key"],
)
def test_unsuitable_keys(tmp_path, make):
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    if make:
        save(tmp_path, make())
    else:
        private.write_text("-----BEGIN CERTIFICATE-----\nx\n")
        public.write_text("nothing")
    for read, path in ((read_signing_key, private), (read_trusted_key, public), (read_trusted_key, private)):
        with pytest.raises(AtollError, match=r"expected Ed25519 or P-256 in PEM") as caught:
            read(path)
        assert caught.value.kind.code == "cloudlet.key"


def test_key_with_a_password(tmp_path):
    private, _ = save(tmp_path, ed25519.Ed25519PrivateKey.generate(), b"secret")
    with pytest.raises(AtollError, match="without a password"):
        read_signing_key(private)


def test_missing_key(tmp_path):
    with pytest.raises(AtollError, match="no such file"):
        read_trusted_key(tmp_path / "missing")


def test_certificate_of_an_unknown_version(tmp_path):
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "brest")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(key, hashes.SHA256())
    odd = made.public_bytes(Encoding.DER).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1)
    body = b"\n".join((b"-----BEGIN CERTIFICATE-----", base64.encodebytes(odd).strip(), b"-----END CERTIFICATE-----", b""))
    (tmp_path / "cert.pem").write_bytes(body)
    with pytest.raises(AtollError, match="holds no public key or certificate"):
        read_trusted_key(tmp_path / "cert.pem")
