"""The supervisor with real processes, fork servers and their children."""

import os
import signal
import socket
from pathlib import Path

import pytest
from handling import SERVERS, await_exit, kill, pids, plan
from programs import free_port

from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.runtime.client import ProcessState, ensure_supervisor
from atoll.runtime.fork_server import HOOK
from atoll.runtime.spec import ForkServer

pytestmark = pytest.mark.timeout(30)


def until(control, name, *wanted):
    """Read events until a process is in one of these states."""
    import time

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = {status.name: status for status in control.status()}.get(name)
        if found is not None and found.state in wanted:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{name} did not become {wanted}")


def failure(events):
    """Return the error that a stream ends with, and the events before it."""
    seen = []
    with pytest.raises(AtollError) as caught:
        for event in events:
            seen.append(event)  # noqa: PERF402 - the stream raises in the end
    assert caught.value.kind.code == "site.failed"
    return {event.process: event for event in seen}, caught.value.message


def talk(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return connection.makefile().readline()


def test_processes_run_in_the_order_of_their_needs(control, process, tmp_path):
    job = process("write", job=True)
    one = process("service", "paris/one", needs=("paris/write",))
    two = process("service", "paris/two", needs=("paris/one",))
    seen = [(event.process, event.state) for event in control.start(plan(two, one, job))]
    order = [("paris/write", "done"), ("paris/one", "starting"), ("paris/one", "ready"), ("paris/two", "starting"), ("paris/two", "ready")]
    assert [item for item in seen if item in order] == order
    stopped = [event.process for event in control.stop() if event.state is ProcessState.STOPPED and event.seconds]
    assert stopped == ["paris/write", "paris/two", "paris/one"]
    assert "stopped in order" in Path(one.log).read_text()
    assert set(pids(control)) == {"supervisor", "root", "base", "server"}


def test_a_hook_that_the_environment_names_is_called_in_each_process_before_its_entry(directory, process, monkeypatch):
    monkeypatch.setenv(HOOK, "programs:hook")
    hooked = process("service", "paris/one")
    list(ensure_supervisor(directory).start(plan(hooked)))
    assert "hooked paris/one" in Path(hooked.log).read_text()


def test_a_process_lives_in_its_network(control, process, network):
    inside = process("greeter", network=network, listen=(("127.0.0.1", 5000),))
    list(control.start(plan(inside)))
    pid = pids(control)[inside.name]
    assert Path(f"/proc/{pid}/ns/net").readlink() == Path(network.network).readlink()
    with pytest.raises(ConnectionRefusedError):
        talk(5000)


def test_a_process_whose_network_is_gone_fails_and_says_so(control, process):
    inside = process("service", network=Namespace("/proc/self/fd/99999"))
    _seen, message = failure(control.start(plan(inside)))
    assert "No such file or directory: '/proc/self/fd/99999'" in message


def test_the_same_plan_twice_leaves_services_alone_and_repeats_jobs(control, process, tmp_path):
    wanted = plan(process("service"), process("write", job=True))
    list(control.start(wanted))
    before = pids(control)
    list(control.start(wanted))
    assert pids(control) == before
    assert (tmp_path / "file").read_text() == "paris/write\n" * 2


def test_a_changed_process_moves_to_its_new_port_and_others_stay(control, process):
    old, new = free_port(), free_port()
    other = process("service")
    list(control.start(plan(process("greeter", listen=(("127.0.0.1", old),)), other)))
    before = pids(control)
    list(control.start(plan(process("greeter", listen=(("127.0.0.1", new),)))))
    after = pids(control)
    assert after["paris/greeter"] != before["paris/greeter"]
    assert after["paris/service"] == before["paris/service"]
    assert str(after["paris/greeter"]) in talk(new)
    with pytest.raises(ConnectionRefusedError):
        talk(old)


def test_connections_made_while_a_service_is_down_are_served_by_the_next(control, process):
    port = free_port()
    list(control.start(plan(process("greeter", listen=(("127.0.0.1", port),)))))
    first = pids(control)["paris/greeter"]
    kill(first)
    answer = talk(port)
    assert answer.split()[0] == str(pids(control)["paris/greeter"])
    assert answer.split()[0] != str(first)
    status = until(control, "paris/greeter", ProcessState.READY)
    assert (status.restarts, status.exit) == (1, -signal.SIGKILL)


@pytest.mark.parametrize("name", ["root", "base", "server"])
def test_a_fork_server_that_is_killed_comes_back_and_its_children_stay(control, process, name):
    service = process("service")
    list(control.start(plan(service)))
    before = pids(control)
    kill(before[name])
    until(control, name, ProcessState.READY)
    after = pids(control)
    assert after == before | {name: after[name]}
    list(control.start(plan(service, process("service", "lyon/service"))))


def test_nothing_outlives_a_supervisor_that_is_killed(control, process, directory):
    port = free_port()
    wanted = plan(process("greeter", listen=(("127.0.0.1", port),)), process("stubborn", stop_timeout_s=0.1))
    list(control.start(wanted))
    before = pids(control)
    os.kill(before["supervisor"], signal.SIGKILL)
    for pid in before.values():
        await_exit(pid)
    assert control.path.exists()
    again = ensure_supervisor(directory)
    list(again.start(wanted))
    assert not set(pids(again).values()) & set(before.values())
    assert talk(port)


def test_sigterm_to_the_supervisor_stops_everything_in_order(control, process, directory):
    service = process("service")
    list(control.start(plan(service)))
    before = pids(control)
    kill(before["supervisor"], signal.SIGTERM)
    for pid in before.values():
        await_exit(pid)
    assert "stopped in order" in Path(service.log).read_text()
    assert not control.path.exists()


def test_a_service_that_ignores_sigterm_is_killed(control, process):
    list(control.start(plan(process("stubborn", stop_timeout_s=0.1))))
    pid = pids(control)["paris/stubborn"]
    (stopped,) = [event for event in control.stop(["paris/stubborn"]) if event.state is ProcessState.STOPPED]
    assert stopped.seconds >= 0.1
    await_exit(pid)


def test_a_process_that_crashes_at_its_start_is_tried_three_times_and_its_log_is_shown(control, process):
    events, message = failure(control.start(plan(process("fail"), process("service"))))
    assert events["paris/fail"].state is ProcessState.FAILED
    assert "RuntimeError: paris/fail cannot work" in events["paris/fail"].detail
    assert message.startswith("paris/fail failed: exit status 1; the end of ")
    assert events["paris/service"].state is ProcessState.READY
    assert Path(process("fail").log).read_text().count("Traceback") == 3
    assert {status.name: status.state for status in control.status()}["paris/fail"] is ProcessState.FAILED


def test_a_process_may_become_ready_at_the_second_attempt(control, process):
    states = [event.state for event in control.start(plan(process("crash_once"))) if event.process == "paris/crash_once"]
    assert states == ["waiting", "starting", "restarting", "waiting", "starting", "ready"]


def test_a_job_that_fails_takes_those_with_it_that_need_it(control, process):
    job = process("fail", job=True)
    events, _message = failure(control.start(plan(job, process("service", needs=(job.name,)))))
    assert events["paris/service"].detail.startswith("needs paris/fail, which failed: exit status 1")
    assert Path(job.log).read_text().count("Traceback") == 1


def test_a_process_may_report_progress_before_it_is_ready(control, process):
    states = [event.state for event in control.start(plan(process("patient"))) if event.process == "paris/patient"]
    assert states == ["waiting", "starting", "ready"]


def test_a_process_that_hangs_while_starting_logs_its_stacks(control, process):
    events, _message = failure(control.start(plan(process("hang", ready_timeout_s=0.2))))
    assert events["paris/hang"].detail.startswith("not ready after 0.2 s; killed by SIGABRT")
    assert "waiting_for_godot" in events["paris/hang"].detail


@pytest.mark.parametrize(
    ("preload", "expected"),
    [
        ("programs:bad_preload", "ValueError: nothing to import here"),
        ("programs:threaded_preload", "programs:threaded_preload has started threads (sleeper)"),
        ("no_such_module:preload", "No module named 'no_such_module'"),
    ],
)
def test_a_fork_server_that_cannot_import_takes_its_processes_with_it(control, process, preload, expected):
    events, message = failure(control.start(plan(process("service"), fork_servers=(ForkServer("server", preload),))))
    assert expected in events["server"].detail
    assert expected in message
    list(control.start(plan(process("service"))))


def test_a_port_in_use_stops_nothing_and_starts_nothing(control, process):
    list(control.start(plan(process("service"))))
    before = pids(control)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = process("greeter", listen=(("127.0.0.1", other.getsockname()[1]),))
        with pytest.raises(AtollError, match=rf"is in use by pid {os.getpid()} "):
            control.start(plan(taken, process("service", "paris/other")))
    assert pids(control) == before


def test_stopping_a_start_is_quick_and_lets_a_job_clean_up(control, process, tmp_path):
    events = control.start(plan(process("slow_job", job=True), process("hang")))
    for event in events:
        if event.state is ProcessState.STARTING and event.process == "paris/hang":
            break
    while not (tmp_path / "file").exists():
        os.sched_yield()
    events.close()
    stopped = {event.process: event.seconds for event in control.stop() if event.state is ProcessState.STOPPED}
    assert stopped.keys() == {"paris/slow_job", "paris/hang"}
    assert max(stopped.values()) < 2
    assert not (tmp_path / "file").exists()


def test_programs_of_a_service_end_with_the_service(control, process, tmp_path):
    list(control.start(plan(process("parent_of_others"))))
    program = int((tmp_path / "file").read_text())
    kill(pids(control)["paris/parent_of_others"])
    await_exit(program)


def test_callbacks_run_when_a_service_stops(control, process):
    callbacks = process("callbacks")
    list(control.start(plan(callbacks)))
    list(control.stop())
    log = Path(callbacks.log).read_text()
    assert log.index("last") < log.index("ZeroDivisionError") < log.index("first")


def test_a_child_has_its_own_things_and_nothing_else(directory, process, tmp_path, monkeypatch):
    monkeypatch.setenv("OS_CLOUD", "somebody's")
    control = ensure_supervisor(directory)
    other = process("greeter", listen=(("127.0.0.1", free_port()),))
    report = process("report", job=True, listen=(("127.0.0.1", free_port()),), directory=str(tmp_path), needs=(other.name,))
    list(control.start(plan(other, report)))
    lines = (tmp_path / "file").read_text().splitlines()
    seen = dict(line.split(" ", 1) for line in lines if not line.startswith("fd "))
    assert seen == {
        "cwd": str(tmp_path),
        "ppid": str(pids(control)["supervisor"]),
        "sid": "True",
        "blocked": "SigBlk:\t0000000000000000",
        "title": "atoll: paris/report",
        "arena": "2",
        "stray": "None",
    }
    descriptors = [line.split(" ", 2)[2] for line in lines if line.startswith("fd ")]
    kinds = sorted(target.partition(":[")[0].removeprefix(str(tmp_path)) for target in descriptors)
    log = "/state/log/paris/report.log"
    # The others are the lock, the pipe to the supervisor, and the pipe of `wait`. (The listed directory is closed by then.)
    assert kinds == sorted(["/dev/null", log, log, "/state/supervisor.lock", "pipe", "pipe", "pipe", "socket"])


def test_a_fork_server_that_changes_is_started_anew(control, process):
    service = process("service")
    list(control.start(plan(service)))
    before = pids(control)
    list(control.start(plan(service, fork_servers=(ForkServer("base"), SERVERS[1]))))
    until(control, "server", ProcessState.READY)
    after = pids(control)
    assert after["paris/service"] == before["paris/service"]
    assert after["root"] == before["root"]
    assert after["base"] != before["base"]
    assert after["server"] != before["server"]


def test_a_restart_waits_until_the_service_is_ready_again(control, process):
    list(control.start(plan(process("service"))))
    before = pids(control)
    control.restart("paris/service")
    assert pids(control)["paris/service"] != before["paris/service"]
    with pytest.raises(AtollError, match="no process paris/nobody"):
        control.restart("paris/nobody")


def test_memory_is_told_when_it_is_asked_for(control, process):
    list(control.start(plan(process("service"))))
    assert {status.memory_bytes for status in control.status()} == {None}
    assert all(status.memory_bytes > 100_000 for status in control.status(memory=True))


def test_no_descriptor_is_lost(control, process):
    """Starts, stops, failures and dying fork servers must not leak descriptors."""

    def counts():
        return [len(list(Path(f"/proc/{pids(control)[name]}/fd").iterdir())) for name in ("supervisor", "root", "base", "server")]

    good = plan(process("service"), process("greeter", listen=(("127.0.0.1", free_port()),)))
    list(control.start(good))
    before = counts()
    for _ in range(3):
        list(control.stop())
        list(control.start(good))
        failure(control.start(plan(process("fail", job=True))))
        kill(pids(control)["server"])
        until(control, "server", ProcessState.READY)
    # At either count, the supervisor may still be closing the last command's connection: a difference of one is no leak, a difference of
    # three is.
    assert all(now <= then + 1 for now, then in zip(counts(), before, strict=True))


def test_a_log_that_cannot_be_written_is_named(control, process, tmp_path):
    (tmp_path / "not_a_directory").touch()
    events, _message = failure(control.start(plan(process("service", log=str(tmp_path / "not_a_directory" / "x.log")))))
    assert events["paris/service"].detail.startswith("cannot be started: [Errno 17]")
    assert "not_a_directory" in events["paris/service"].detail


def test_a_directory_that_does_not_exist_is_named(control, process, tmp_path):
    events, _message = failure(control.start(plan(process("service", job=True, directory=str(tmp_path / "nowhere")))))
    assert "nowhere" in events["paris/service"].detail


def test_killed_processes_get_no_chance_to_tidy_up_and_stay_away_until_started(control, process):
    one, two = process("service", "paris/one"), process("service", "paris/two", needs=("paris/one",))
    other = process("service", "lyon/one")
    list(control.start(plan(one, two, other)))
    before = pids(control)
    gone = [event.process for event in control.kill(["paris/one", "paris/two", "paris/three"]) if event.state is ProcessState.STOPPED]
    assert sorted(gone) == ["paris/one", "paris/two"]
    assert "stopped in order" not in Path(one.log).read_text() + Path(two.log).read_text()
    assert pids(control) == {name: pid for name, pid in before.items() if not name.startswith("paris/")}
    assert list(control.kill(["paris/one"])) == []
    list(control.start(plan(one, two)))
    assert pids(control).keys() == before.keys()


def test_process_that_is_killed_while_it_starts_takes_no_fork_server_with_it(control, process):
    list(control.start(plan(process("service", "lyon/one"))))
    before = pids(control)
    events = control.start(plan(process("hang")))
    next(event for event in events if event.state is ProcessState.STARTING)
    events.close()
    killed = until_idle(lambda: list(control.kill(["paris/hang"])))
    assert [event.state for event in killed if event.process == "paris/hang"][-1:] == [ProcessState.STOPPED]
    assert pids(control) == before


def until_idle(ask):
    """Return the answer as soon as the supervisor has noticed that its last client has hung up."""
    while True:
        try:
            return ask()
        except AtollError as error:
            assert error.kind.code == "state.busy"  # noqa: PT017 - most of the time it does not
