"""The time of Neutron's start, with upstream's real function in processes of one parent."""

from upstream import inside

START = """
    import os, tempfile
    from contextlib import nullcontext
    from pathlib import Path
    from types import SimpleNamespace
    from unittest import mock
    from neutron.common import wsgi_utils
    from atoll.services.patches.neutron import start_time

    directory = Path(sys.argv[2])
    tempfile.tempdir = str(directory)
    settings = SimpleNamespace(sockets=directory / "run")
    times = []
    with mock.patch.object(os, "getppid", return_value=1):
        for now in (1000, 2000):
            wsgi_utils._start_time = None
            with mock.patch.object(wsgi_utils.utils, "datetime_to_ts", return_value=now):
                with start_time.own_start(settings) if sys.argv[1] == "ours" else nullcontext():
                    times.append(wsgi_utils.get_start_time())
    tell([times, tempfile.tempdir == str(directory)])
"""


def test_each_start_has_a_time_of_its_own(tmp_path):
    assert inside(START, "ours", str(tmp_path)) == [[1000, 2000], True]


def test_upstream_takes_the_time_of_the_start_before(tmp_path):
    """If this fails, patches/neutron/start_time.py can go."""
    assert inside(START, "upstream", str(tmp_path)) == [[1000, 1000], True]
