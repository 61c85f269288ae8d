"""Limits of open files; the tests do not change those of their own process."""

import resource

import pytest

from atoll.runtime import this_process


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 4096), (4096, 4096)),
        ((1024, 10**6), (65536, 10**6)),
        ((1024, resource.RLIM_INFINITY), (65536, resource.RLIM_INFINITY)),
        ((10**5, 10**6), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
        ((256, 256), None),
    ],
)
def test_soft_limit_is_raised(monkeypatch, before, after):
    told = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, both: told.append(both))
    this_process.raise_file_limit()
    assert told == ([after] if after else [])
