"""A control site's list of its compute sites: the entries of certificates, and revocations that last."""

import logging
from dataclasses import replace

import pytest

from atoll.mesh.certificates import authority
from atoll.mesh.compute_sites import ComputeSite, ComputeSiteList, admitted, load, save


@pytest.fixture
def certify(tmp_path):
    made = authority(tmp_path / "ca", "coast")

    def certify_(name: str, directory: str = "") -> ComputeSite:
        place = tmp_path / (directory or name)
        made.certify(place, name, "127.0.0.1", unique=True)
        return ComputeSite.of(name, (place / "cert.pem").read_text(), 7)

    return certify_


def test_each_certificate_has_a_name_of_its_own(certify):
    """A list of common names tells an old certificate of a site from its new one."""
    first, second = certify("edge"), certify("edge", "anew")
    assert first.common_name != second.common_name
    assert first.fingerprint != second.fingerprint
    assert first.common_name.startswith("edge.")
    assert certify("edge") == first, "a valid certificate must be kept"


def test_written_list_is_read(tmp_path, certify):
    file, entries = tmp_path / "computes.json", (certify("edge"), certify("far"))
    assert load(file) == ()
    save(file, entries)
    assert load(file) == entries
    assert file.stat().st_mode & 0o777 == 0o600


def test_certificate_that_was_revoked_stays_so(tmp_path, certify):
    file, edge = tmp_path / "computes.json", certify("edge")
    save(file, [edge])
    save(file, [edge.without_access()])
    save(file, [edge])
    assert admitted(load(file)) == ()
    anew = certify("edge", "anew")
    save(file, [anew])
    assert admitted(load(file)) == (anew,)


@pytest.mark.parametrize("text", ["", "[", "{}x", "[1]", '[{"name": "edge"}]', '{"a": 1}'])
def test_list_that_can_not_be_read_lets_nobody_in(tmp_path, text, caplog):
    file = tmp_path / "computes.json"
    file.write_text(text)
    with caplog.at_level(logging.ERROR):
        assert load(file) == ()
    assert "no compute site is admitted" in caplog.text
    assert ComputeSiteList(file).name_of("") is None


def test_list_is_followed(tmp_path, certify):
    file, edge, far = tmp_path / "computes.json", certify("edge"), replace(certify("far"), realm=8)
    followed = ComputeSiteList(file)
    assert followed.name_of(edge.fingerprint) is None
    save(file, [edge, far])
    assert [followed.name_of(site.fingerprint) for site in (edge, far)] == ["edge", "far"]
    assert [followed.name_of_realm(site.realm) for site in (edge, far)] == ["edge", "far"]
    assert followed.name_of_realm(3) is None
    save(file, [replace(edge, revoked=True), far])
    assert followed.name_of_realm(edge.realm) is None
    assert [followed.name_of(site.fingerprint) for site in (edge, far)] == [None, "far"]
    file.unlink()
    assert followed.name_of(far.fingerprint) is None
