"""The cloud's certificate authority, and the certificates by which sites authenticate one another.

    STATE/ca/ca.pem, ca.key              the authority
    STATE/sites/NAME/tls/ca.pem          the authority's certificate, so that a site's directory has all that the site needs
                         cert.pem, key.pem

Each file is created once, and replaced only when it is no longer valid.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from atoll.errors import AtollError
from atoll.files import make_directory, write_private

AUTHORITY_LIFE = timedelta(days=7300)
CERTIFICATE_LIFE = timedelta(days=825)
RENEWAL = CERTIFICATE_LIFE / 3
"""The time before a certificate's end within which the first `up` renews it. A site may run for longer without an `up`."""

_CLOCK_SKEW = timedelta(days=1)

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class CertificateAuthority:
    """The cloud's certificate authority.

    Attributes:
        certificate: the authority's certificate.
        key: the authority's private key; `None` in a state directory whose sites joined a cloud that was created elsewhere.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None

    def certify(self, directory: Path, name: str, host: str, clock: Clock = _now, *, unique: bool = False) -> bool:
        """Create or renew a site's certificate of this authority for its name and its address, unless it has a valid one.

        Args:
            directory: the directory of `ca.pem`, `cert.pem` and `key.pem`.
            name: the site's name.
            host: the site's IPv4 address.
            clock: returns the time.
            unique: give the certificate a common name that no other certificate of the site has, so that a list of common names
                distinguishes a new certificate from an old one.

        Returns:
            False if the site had a valid certificate.

        Raises:
            AtollError: `state.unusable`: the site has no valid certificate, and the authority's key is not here.
        """
        if _is_valid(directory, self.certificate, name, host, clock(), unique=unique):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), name, host, clock(), unique=unique)
        make_directory(directory)
        # The certificate last: if it is missing or does not match the other files, all of them are created again.
        write_private(directory / "ca.pem", _pem(self.certificate))
        write_private(directory / "key.pem", _private(key))
        write_private(directory / "cert.pem", _pem(certificate))
        return True

    def sign_request(self, request: str, name: str, host: str, clock: Clock = _now) -> str:
        """Certify the key of a joining site.

        Args:
            request: the site's certificate signing request (PEM), of which only the key is used.
            name: the site's name.
            host: the site's IPv4 address.
            clock: returns the time.

        Returns:
            The certificate (PEM).

        Raises:
            AtollError: `join.refused`: the request is malformed, or not signed with its own key; `state.unusable`.
        """
        try:
            asked = x509.load_pem_x509_csr(request.encode("ascii"))
            key = asked.public_key()
        except (ValueError, TypeError):
            raise AtollError("join.refused", "the certificate request is malformed") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1) or not asked.is_signature_valid:
            raise AtollError("join.refused", "the certificate request is not signed with its own key on the curve P-256")
        return _pem(self._sign(key, name, host, clock()))

    def _sign(self, key: ec.EllipticCurvePublicKey, name: str, host: str, now: datetime, *, unique: bool = False) -> x509.Certificate:
        if self.key is None:
            message = f"{name} needs a certificate, and the key of the cloud's authority is not on this machine"
            raise AtollError("state.unusable", message, "join again with a new token, or run this where `atoll up` created the cloud")
        identifier = x509.SubjectKeyIdentifier.from_public_key
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(_common_name(name, key) if unique else name))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(min(now + CERTIFICATE_LIFE, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signature=True), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(_names(name, host), critical=False)
            .add_extension(identifier(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())


def request(name: str) -> tuple[str, str]:
    """Return a new key for a site, and a request for its certificate, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, hashes.SHA256())
    return _private(key), asked.public_bytes(serialization.Encoding.PEM).decode("ascii")


def authority(directory: Path, cloud: str, clock: Clock = _now) -> CertificateAuthority:
    """Return the cloud's authority, created if there is none.

    Args:
        directory: the directory of `ca.pem` and `ca.key`.
        cloud: the cloud's name, which only serves people who read a certificate.
        clock: returns the time.

    Raises:
        AtollError: `state.unusable`: the files can't be read, or do not belong together.
    """
    certificate, key = directory / "ca.pem", directory / "ca.key"
    if certificate.exists():
        if not key.exists():
            return CertificateAuthority(x509.load_pem_x509_certificate(certificate.read_bytes()), None)
        try:
            found = CertificateAuthority(x509.load_pem_x509_certificate(certificate.read_bytes()), _load_key(key))
            if found.key and found.certificate.public_key() == found.key.public_key():
                return found
        except (OSError, ValueError, TypeError):
            pass
        hint = f"put {certificate.name} and {key.name} back; or remove both, and the next `atoll up` creates new certificates for all sites"
        raise AtollError("state.unusable", f"{directory}: expected the certificate of the cloud's authority and its key", hint)
    secret = ec.generate_private_key(ec.SECP256R1())
    made = _self_signed(secret, cloud, clock())
    make_directory(directory)
    write_private(key, _private(secret))
    write_private(certificate, _pem(made))
    return CertificateAuthority(made, secret)


def _self_signed(key: ec.EllipticCurvePrivateKey, cloud: str, now: datetime) -> x509.Certificate:
    subject = _name(f"{cloud} certificate authority")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signature=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _common_name(name: str, key: ec.EllipticCurvePublicKey) -> str:
    """Return a common name that is unique to a key: the site's name, which has no dot, then a dot and a digest of the key."""
    return f"{name}.{x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()[:20]}"


def _is_valid(  # noqa: PLR0913 - the parts of a certificate
    directory: Path, issuer: x509.Certificate, name: str, host: str, now: datetime, *, unique: bool
) -> bool:
    with suppress(OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        certificate = x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())
        certificate.verify_directly_issued_by(issuer)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = _load_key(directory / "key.pem").public_key()
        return (
            names == _names(name, host)
            and certificate.subject == _name(_common_name(name, key) if unique else name)
            and certificate.not_valid_after_utc - now > min(RENEWAL, issuer.not_valid_after_utc - now - timedelta(seconds=1))
            and certificate.public_key() == key
            and (directory / "ca.pem").read_text(encoding="ascii") == _pem(issuer)
        )
    return False


def _names(name: str, host: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(host))])


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signature: bool) -> x509.KeyUsage:
    """Return the permitted uses of a key: a site's key signs messages, the authority's key signs certificates."""
    return x509.KeyUsage(
        digital_signature=signature, key_cert_sign=not signature, crl_sign=not signature, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode("ascii")


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path}: expected a key on an elliptic curve")
    return key
