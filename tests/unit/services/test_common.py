import stat

import pytest

from atoll.services import common


def test_directories_are_private(settings):
    common.directories(settings, "images", "deep/inside")
    common.directories(settings, "images")
    for name in ("locks", "images", "deep/inside"):
        assert stat.S_IMODE((settings.data / name).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "path", ["etc/nova/api-paste.ini", "etc/neutron/api-paste.ini", "etc/glance/glance-api-paste.ini", "etc/glance/metadefs"]
)
def test_upstream_files_are_where_they_are_looked_for(path):
    assert common.upstream_file(path).exists()


def test_configuration_with_a_password_is_private_and_removed():
    with common.written("secret") as path:
        assert path.read_text() == "secret"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
