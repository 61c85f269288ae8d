"""`kill -9` of each process in turn, of the supervisor, and of all processes at once loses nothing."""

import psutil
import pytest
from deployment import NAMES, await_exit, kill, until
from holdings import await_status

from atoll.bench import workload


@pytest.mark.parametrize("service", NAMES)
def test_killed_service_comes_back(paris, kept, service):
    name = f"paris/{service}"
    doomed = kept.boot("doomed") if service == "nova" else None
    before = paris.processes()
    kill(before[name].pid)
    after = until(lambda: _restarted(paris, name, before[name].pid), f"{name} ready again")
    assert paris.await_answers() < 60
    assert after[name].restarts == before[name].restarts + 1
    others = {other: status.pid for other, status in before.items() if other != name and status.pid}
    assert {other: after[other].pid for other in others} == others, "no other process may be restarted"
    kept.check()
    if doomed is not None:
        kept.manage()
        workload.delete(paris.api(), [doomed])


def _restarted(paris, name, old):
    found = paris.processes()
    status = found[name]
    return found if status.state == "ready" and status.pid != old else None


def test_server_stopped_before_the_kill_can_be_started_after_it(paris, kept):
    api = paris.api()
    server = kept.boot("asleep")
    api.expect("compute", "POST", f"/servers/{server}/action", {"os-stop": None})
    await_status(api, server, "SHUTOFF")
    old = paris.pids()["paris/nova"]
    kill(old)
    until(lambda: _restarted(paris, "paris/nova", old), "nova ready again")
    await_status(api, server, "SHUTOFF")
    api.expect("compute", "POST", f"/servers/{server}/action", {"os-start": None})
    await_status(api, server, "ACTIVE")
    workload.delete(api, [server])


def test_killed_fork_server_takes_nobody_with_it(paris, kept):
    before = paris.pids()
    kill(before["nova"])
    until(lambda: paris.processes()["nova"].state in ("ready", "stopped"), "the fork server ready again")
    after = paris.pids()
    assert {name: after[name] for name in before if name != "nova"} == {name: pid for name, pid in before.items() if name != "nova"}
    kept.check()


def test_killed_supervisor_leaves_nothing_running_and_up_loses_nothing(paris, kept):
    pids = paris.pids()
    processes = [psutil.Process(pid) for pid in pids.values()]
    kill(pids["supervisor"])
    await_exit(processes)
    paris.atoll("up")
    assert paris.await_answers() < 60
    kept.check()
    kept.manage()


def test_everything_killed_together_is_restored_by_up(paris, kept):
    kill(*paris.pids().values())
    assert paris.processes() == {}
    paris.atoll("up")
    assert paris.await_answers() < 60
    kept.check()
