"""Checks of memory and open files; the tests do not depend on the machine."""

import resource

import pytest

from atoll.errors import AtollError
from atoll.runtime.spec import Plan, Process
from atoll.site import limits
from atoll.site.limits import check_files, check_memory

MB = 10**6


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets the megabytes left in the machine and in each control group."""

    def free_(machine: int, *groups: int) -> None:
        monkeypatch.setattr(limits, "_available", lambda: machine * MB)
        monkeypatch.setattr(limits, "_left_in_groups", lambda: iter(group * MB for group in groups))

    return free_


def refusal(*arguments, **options) -> str:
    with pytest.raises(AtollError) as caught:
        check_memory(*arguments, **options)
    assert caught.value.kind.code == "machine.limit"
    return caught.value.message


def test_memory_that_suffices(free):
    free(560)
    check_memory(1, warm=False)
    check_memory(2, warm=True)
    free(0)
    check_memory(0, warm=False)


def test_too_little_memory_is_told_with_what_is_needed(free):
    free(390)
    assert refusal(1, warm=False) == "390 MB of memory are available: one site needs at least 550 MB"
    assert refusal(3, warm=True) == "390 MB of memory are available: 3 sites need at least 600 MB"


def test_tightest_control_group_applies(free):
    free(8000, 5000, 300, 2000)
    assert refusal(1, warm=False).startswith("300 MB")


def test_swap_is_included(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  1000 kB\nSwapFree:   24 kB\nHugePages_Total:  0\n")
    real = limits.Path
    monkeypatch.setattr(limits, "Path", lambda *parts: tmp_path / "meminfo" if parts == ("/proc/meminfo",) else real(*parts))
    assert limits._available() == 1024 * 1024


@pytest.mark.parametrize(
    ("line", "index", "name"), [("0::/box/inner", 0, "inactive_file"), ("4:memory:/box/inner", 1, "total_inactive_file")]
)
def test_limits_of_control_groups(monkeypatch, tmp_path, line, index, name):
    """The group has a parent with a limit, and the root has none; the kernel can reclaim the cache of files."""
    _root, limit, used, _reclaimable = limits._FILES[index]
    files = [(tmp_path, *each[1:]) for each in limits._FILES]
    monkeypatch.setattr(limits, "_FILES", files)
    for group, most in (("box/inner", "700"), ("box", "max"), (".", "900")):
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / limit).write_text(f"{most}\n")
        (tmp_path / group / used).write_text("500\n")
        (tmp_path / group / "memory.stat").write_text(f"anon 1\n{name} 40\n")
    (tmp_path / "cgroup").write_text(f"7:pids:/other\n{line}\n")
    real = limits.Path
    monkeypatch.setattr(limits, "Path", lambda *parts: tmp_path / "cgroup" if parts == ("/proc/self/cgroup",) else real(*parts))
    assert list(limits._left_in_groups()) == [240, 440]


def test_groups_of_this_process_can_be_read():
    assert all(left > 0 for left in limits._left_in_groups())
    assert limits._available() > 0


PLAN = Plan((), tuple(Process(f"a/{name}", "base", "x:y", listen=(("127.0.0.1", name),)) for name in range(1, 101)))


def test_files_that_suffice(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (64, 364))
    check_files(PLAN)
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (64, resource.RLIM_INFINITY))
    check_files(PLAN)


def test_too_few_files_are_told(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (64, 363))
    with pytest.raises(AtollError, match="a process may open 363 files: expected at least 364") as caught:
        check_files(PLAN)
    assert caught.value.hint.startswith("`ulimit -Hn 364` as root")
