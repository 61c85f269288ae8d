import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from atoll.errors import AtollError
from atoll.mesh.certificates import AUTHORITY_LIFE, CERTIFICATE_LIFE, RENEWAL, CertificateAuthority, authority, request

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def at(time: datetime):
    return lambda: time


@pytest.fixture
def made(tmp_path) -> CertificateAuthority:
    return authority(tmp_path / "ca", "coast", at(NOW))


def certificate(directory) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())


def test_authority_is_made_once(tmp_path, made):
    again = authority(tmp_path / "ca", "another", at(NOW + timedelta(days=1)))
    assert (again.certificate, again.key.private_numbers()) == (made.certificate, made.key.private_numbers())
    assert "coast" in made.certificate.subject.rfc4514_string()


def test_everything_is_private(tmp_path, made):
    made.certify(tmp_path / "paris", "paris", "127.0.0.1", at(NOW))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"ca": 0o700, "paris": 0o700, "ca.key": 0o600, "ca.pem": 0o600, "cert.pem": 0o600, "key.pem": 0o600}


def test_certificate_names_the_site_and_its_address(tmp_path, made):
    assert made.certify(tmp_path, "paris", "127.0.0.1", at(NOW))
    found = certificate(tmp_path)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["paris"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    found.verify_directly_issued_by(made.certificate)
    assert load_pem_private_key((tmp_path / "key.pem").read_bytes(), None).public_key() == found.public_key()


def test_authority_of_a_site_can_sign_nobody_else(made):
    constraints = made.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)


def test_certificate_that_serves_is_kept(tmp_path, made):
    made.certify(tmp_path, "paris", "127.0.0.1", at(NOW))
    before = (tmp_path / "cert.pem").read_bytes()
    assert not made.certify(tmp_path, "paris", "127.0.0.1", at(NOW + CERTIFICATE_LIFE - RENEWAL - timedelta(hours=1)))
    assert (tmp_path / "cert.pem").read_bytes() == before


def test_certificate_is_renewed_before_its_end(tmp_path, made):
    made.certify(tmp_path, "paris", "127.0.0.1", at(NOW))
    later = NOW + CERTIFICATE_LIFE - RENEWAL
    assert made.certify(tmp_path, "paris", "127.0.0.1", at(later))
    assert certificate(tmp_path).not_valid_after_utc == later + CERTIFICATE_LIFE


def test_certificate_ends_with_its_authority_and_is_not_renewed_in_vain(tmp_path, made):
    late = NOW + AUTHORITY_LIFE - timedelta(days=100)
    made.certify(tmp_path, "paris", "127.0.0.1", at(late))
    assert certificate(tmp_path).not_valid_after_utc == NOW + AUTHORITY_LIFE
    assert not made.certify(tmp_path, "paris", "127.0.0.1", at(late))


def renamed(directory, made):
    return "lyon", "127.0.0.1"


def moved(directory, made):
    return "paris", "127.0.0.2"


def lost(name):
    def lose(directory, made):
        (directory / name).unlink()
        return "paris", "127.0.0.1"

    return lose


def spoilt(name):
    def spoil(directory, made):
        (directory / name).write_text("x")
        return "paris", "127.0.0.1"

    return spoil


def of_another_key(directory, made):
    made.certify(directory / "other", "paris", "127.0.0.1", at(NOW))
    (directory / "other" / "key.pem").replace(directory / "key.pem")
    return "paris", "127.0.0.1"


@pytest.mark.parametrize(
    "change",
    [renamed, moved, of_another_key, *map(lost, ("cert.pem", "key.pem", "ca.pem")), *map(spoilt, ("cert.pem", "key.pem", "ca.pem"))],
)
def test_certificate_that_serves_no_more_is_made_anew(tmp_path, made, change):
    made.certify(tmp_path, "paris", "127.0.0.1", at(NOW))
    name, host = change(tmp_path, made)
    assert made.certify(tmp_path, name, host, at(NOW))
    assert not made.certify(tmp_path, name, host, at(NOW))


def test_certificate_of_another_authority_is_made_anew(tmp_path, made):
    made.certify(tmp_path, "paris", "127.0.0.1", at(NOW))
    other = authority(tmp_path / "other", "coast", at(NOW))
    assert other.certify(tmp_path, "paris", "127.0.0.1", at(NOW))
    certificate(tmp_path).verify_directly_issued_by(other.certificate)


def test_authority_that_cannot_be_read_is_not_made_anew(tmp_path, made):
    (tmp_path / "ca/ca.key").write_text("x")
    with pytest.raises(AtollError, match="expected the certificate of the cloud's authority and its key") as caught:
        authority(tmp_path / "ca", "coast")
    assert caught.value.kind.code == "state.unusable"


def test_authority_with_the_key_of_another(tmp_path, made):
    authority(tmp_path / "other", "coast")
    (tmp_path / "other" / "ca.key").replace(tmp_path / "ca" / "ca.key")
    with pytest.raises(AtollError, match="and its key"):
        authority(tmp_path / "ca", "coast")


def test_python_accepts_each_other_by_them(tmp_path):
    """A handshake in memory, both sides with a certificate, by the name and by the address."""
    made = authority(tmp_path / "ca", "coast")
    made.certify(tmp_path / "paris", "paris", "127.0.0.1")
    made.certify(tmp_path / "edge", "edge", "127.0.0.2")
    for expected in ("paris", "127.0.0.1"):
        assert _peers(tmp_path / "paris", tmp_path / "edge", expected) == ("edge", "paris")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        _peers(tmp_path / "paris", tmp_path / "edge", "127.0.0.2")


def _peers(server_files, client_files, expected: str) -> tuple[str, str]:
    """Return the names that each side reads in the other's certificate."""
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = _context(ssl.PROTOCOL_TLS_SERVER, server_files).wrap_bio(there, here, server_side=True)
    client = _context(ssl.PROTOCOL_TLS_CLIENT, client_files).wrap_bio(here, there, server_hostname=expected)
    for _round in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return _name(server), _name(client)


def _context(protocol: int, files) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _name(side: ssl.SSLObject) -> str:
    found = side.getpeercert()
    assert found is not None
    return str(found["subject"][0][0][1])


def test_authority_of_another_machine_knows_its_sites_and_certifies_nobody(tmp_path, made):
    made.certify(tmp_path / "paris", "paris", "10.77.1.1")
    (tmp_path / "ca/ca.key").unlink()
    joined = authority(tmp_path / "ca", "coast")
    assert not joined.certify(tmp_path / "paris", "paris", "10.77.1.1")
    with pytest.raises(AtollError, match="not on this machine"):
        joined.certify(tmp_path / "lyon", "lyon", "10.77.2.1")


def test_request_gets_a_certificate_for_its_key_and_the_name_that_was_granted(made):
    key, asked = request("whoever")
    granted = x509.load_pem_x509_certificate(made.sign_request(asked, "paris", "10.77.1.1").encode())
    assert granted.subject.rfc4514_string() == "CN=paris"
    private = load_pem_private_key(key.encode(), None)
    assert granted.public_key() == private.public_key()
    granted.verify_directly_issued_by(made.certificate)


@pytest.mark.parametrize("asked", ["", "not a request", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"])
def test_malformed_request_is_refused(made, asked):
    with pytest.raises(AtollError, match="malformed"):
        made.sign_request(asked, "paris", "10.77.1.1")
