"""Zenoh's configuration: it contains the given settings, and opens nothing else."""

import json

import pytest

from atoll.zenoh_link.config import Tls, session_config


def setting(config, key):
    return json.loads(config.get_json(key))


@pytest.fixture
def files(tmp_path):
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    return {f"{name}_file": str(tmp_path / name) for name in ("ca", "cert", "key")}


def test_only_what_is_named_is_opened():
    config = session_config(mode="peer", listen=["unixsock-stream//run/x.sock"], connect=["tcp/paris:7447"], lease_s=2.5)
    assert setting(config, "mode") == "peer"
    assert setting(config, "listen/endpoints") == ["unixsock-stream//run/x.sock"]
    assert setting(config, "connect/endpoints") == ["tcp/paris:7447"]
    assert setting(config, "transport/link/tx/lease") == 2500
    assert setting(config, "scouting/multicast/enabled") is False
    assert setting(config, "scouting/gossip/enabled") is False
    assert setting(config, "transport/shared_memory/enabled") is False
    assert setting(config, "connect/exit_on_failure") is False


def test_listening_nowhere_is_listening_nowhere():
    """Zenoh's own default would be a TCP port that anybody may connect to."""
    assert setting(session_config(mode="peer", listen=[], connect=[]), "listen/endpoints") == []


def test_multicast_only_when_asked():
    assert setting(session_config(mode="peer", listen=[], connect=[], multicast=True), "scouting/multicast/enabled") is True


def test_tls_with_a_certificate_is_mutual(files):
    config = session_config(mode="router", listen=[], connect=[], tls=Tls(**files, verify_name=False))
    tls = setting(config, "transport/link/tls")
    assert tls["enable_mtls"] is True
    assert tls["root_ca_certificate"] == files["ca_file"]
    assert tls["listen_certificate"] == tls["connect_certificate"] == files["cert_file"]
    assert tls["listen_private_key"] == tls["connect_private_key"] == files["key_file"]
    assert tls["verify_name_on_connect"] is False


def test_tls_without_a_certificate_only_checks_the_other_side(files):
    tls = setting(session_config(mode="peer", listen=[], connect=[], tls=Tls(files["ca_file"])), "transport/link/tls")
    assert not tls["enable_mtls"]
    assert tls["verify_name_on_connect"] is True


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ca_file": ""}, "TLS needs tls_ca_file"),
        ({"ca_file": "CA", "cert_file": "CERT"}, "tls_cert_file and tls_key_file belong together"),
        ({"ca_file": "CA", "key_file": "KEY"}, "tls_cert_file and tls_key_file belong together"),
        ({"ca_file": "/no/such"}, "TLS file /no/such does not exist"),
        ({"ca_file": "CA", "cert_file": "/no/cert", "key_file": "KEY"}, "TLS file /no/cert does not exist"),
    ],
)
def test_half_given_tls_is_told(files, given, told):
    given = {name: files.get(f"{value.lower()}_file", value) for name, value in given.items()}
    with pytest.raises(ValueError, match=told):
        Tls(**given).check()
    with pytest.raises(ValueError, match=told):
        session_config(mode="peer", listen=[], connect=[], tls=Tls(**given))
