from pathlib import Path

import pytest

from atoll.cloud.model import PORT_OFFSETS
from atoll.services import Settings
from atoll.site.composition import SECRETS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a site whose secrets contain every character that oslo.config could misread."""
    return Settings(
        site="paris",
        directory=tmp_path / "paris",
        templates=tmp_path / "templates",
        host="127.0.0.1",
        ports={name: 15000 + offset for name, offset in PORT_OFFSETS.items()},
        secrets={name: f"secret-of-{name}-$x$$%(y)s-" for name in SECRETS},
    )
