import sys

import pytest

import atoll
from atoll.site.versions import all_versions, installed, same_release


def test_all_services_have_a_version():
    assert set(installed()) == {"atoll", "keystone", "placement", "glance", "neutron", "nova"}
    assert all_versions()["atoll"] == atoll.__version__
    assert "not installed" not in all_versions().values()


def test_upstream_is_not_imported_for_it():
    all_versions()
    assert "nova" not in sys.modules


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("34.0.0", "34.1.2", True),
        ("33.0.0", "34.0.0", False),
        ("0.1.0", "0.1.9", True),
        ("0.1.0", "0.2.0", False),
        ("", "0.1.0", False),
        ("1.2", "1.3", True),
    ],
)
def test_same_release(one, other, same):
    assert same_release(one, other) is same
