"""Transport URLs: their addresses, and the errors for malformed ones."""

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging import InvalidTransportURL

from atoll.bus.address import Address


def read(text: str) -> Address:
    return Address.from_url(oslo_messaging.TransportURL.parse(cfg.ConfigOpts(), text))


@pytest.mark.parametrize(
    ("text", "endpoints", "vhost"),
    [
        ("zenoh://", (), ""),
        ("zenoh:///", (), ""),
        ("zenoh:///coast", (), "coast"),
        ("zenoh://paris/", ("paris:7447",), ""),
        ("zenoh://paris:7000/coast", ("paris:7000",), "coast"),
        ("zenoh://paris,lyon:7448/coast", ("paris:7447", "lyon:7448"), "coast"),
        ("zenoh://[::1]:7000/", ("[::1]:7000",), ""),
        ("zenoh://[2001:db8::1]/x", ("[2001:db8::1]:7447",), "x"),
        ("zenoh://10.0.0.1:1/a%2Fb", ("10.0.0.1:1",), "a/b"),
    ],
)
def test_url_is_read(text, endpoints, vhost):
    assert read(text) == Address(endpoints, vhost)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("zenoh://user:s3cret@paris/", "knows no user and password; use TLS with client certificates"),
        ("zenoh://user@paris/", "knows no user and password"),
        ("zenoh://good,user:s3cret@paris:1/", "knows no user and password"),
        ("zenoh://paris:99999/", "port 99999 of paris is not between 1 and 65535"),
        ("zenoh://:7447/", "port 7447 without a host"),
        ("zenoh://paris?retries=3", r"takes no \?query"),
        ("zenoh://paris/coast?retries=3", r"takes no \?query"),
    ],
)
def test_wrong_url_is_told_in_one_line(text, told):
    with pytest.raises(InvalidTransportURL, match=told) as caught:
        read(text)
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("port", ["0", "-1", "65536"])
def test_port_must_be_one(port):
    with pytest.raises(Exception, match=r"(?i)port") as caught:
        read(f"zenoh://paris:{port}/")
    assert len(str(caught.value).splitlines()) == 1
