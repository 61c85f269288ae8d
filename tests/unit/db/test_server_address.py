"""Addresses in the URLs of database servers."""

import pytest

from atoll.db.address import address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql+pymysql://atoll:GEHEIM@10.0.0.1:3306?ssl_ca=/ca.pem", "10.0.0.1:3306"),
        ("mysql+pymysql://atoll:GEHEIM@localhost?unix_socket=/run/m.sock", "/run/m.sock"),
        ("redis://atoll@localhost?socket=/run/r.sock", "/run/r.sock"),
        ("redis://db:6379/0", "db:6379"),
        ("redis://db:6379", "db:6379"),
        ("redis://db:6379/1", "db:6379/1"),
        ("postgresql+psycopg://atoll:p%40@?host=/run/postgresql", "/run/postgresql"),
        ("postgresql+psycopg://atoll:p%40@[::1]:5432", "[::1]:5432"),
    ],
)
def test_the_address_has_no_account_and_no_parameters(url, expected):
    assert address(url) == expected
