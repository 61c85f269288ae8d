"""The metadata API, asked as Neutron's metadata proxy asks: for a server, with a signature."""

import hashlib
import hmac
import http.client
import json

import pytest
from holdings import server


def ask(paris, path, headers):
    settings = paris.settings()
    connection = http.client.HTTPConnection(settings.listens_at("metadata"), settings.ports["metadata"], timeout=120)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def headers(paris, kept):
    found = server(paris.api(), kept.server)
    address = found["addresses"]["bench"][0]["addr"]
    secret = paris.settings().secrets["metadata"].encode()
    return {
        "X-Instance-ID": kept.server,
        "X-Tenant-ID": found["tenant_id"],
        "X-Forwarded-For": address,
        "X-Instance-ID-Signature": hmac.new(secret, kept.server.encode(), hashlib.sha256).hexdigest(),
    }


def test_server_learns_its_address_and_name(paris, headers):
    assert ask(paris, "/latest/meta-data/local-ipv4", headers) == (200, headers["X-Forwarded-For"])
    status, text = ask(paris, "/openstack/latest/meta_data.json", headers)
    assert status == 200
    data = json.loads(text)
    assert (data["uuid"], data["name"], data["availability_zone"]) == (headers["X-Instance-ID"], "kept", "paris")


def test_wrong_signature_learns_nothing(paris, headers):
    status, _text = ask(paris, "/latest/meta-data/local-ipv4", headers | {"X-Instance-ID-Signature": "0" * 64})
    assert status == 403


def test_nobody_learns_nothing(paris):
    assert ask(paris, "/latest/meta-data/local-ipv4", {})[0] == 400
