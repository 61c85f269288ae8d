"""Gives each start of Neutron a different start time.

The processes of one API server agree on the time of their start through a file in the directory for temporary files, whose name has the
pid of their parent (`get_start_time` in neutron/common/wsgi_utils.py). The services of all sites have one parent, which outlives them: a
second start would read the time of the first. So Neutron starts with a directory for temporary files of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from atoll.files import make_directory
from atoll.services.contract import Settings


@contextmanager
def own_start(settings: Settings) -> Iterator[None]:
    """Have temporary files go to an empty directory while the block runs.

    Args:
        settings: the site's settings.
    """
    before = tempfile.tempdir
    make_directory(settings.sockets)  # Neutron may be the first process of the site that needs it
    with tempfile.TemporaryDirectory(dir=settings.sockets) as directory:
        tempfile.tempdir = directory
        yield
        tempfile.tempdir = before
