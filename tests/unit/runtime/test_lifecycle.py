"""The state machine, with a simulated clock and without processes."""

import signal

import pytest

from atoll.runtime.events import ProcessState
from atoll.runtime.lifecycle import FORK_SERVER, JOB, SERVICE, Forget, Kill, Launch, Lifecycle, Policy, Report, Signal, Unit

SERVER = Unit("server", FORK_SERVER)
ONE = Unit("one", SERVICE, ("server",))
TWO = Unit("two", SERVICE, ("server", "one"))
TASK = Unit("task", JOB, ("server",))


def launches(actions):
    return [action.name for action in actions if isinstance(action, Launch)]


def signals(actions):
    return [(action.name, action.signum) for action in actions if isinstance(action, Signal)]


def states(actions):
    return [(action.event.process, action.event.state) for action in actions if isinstance(action, Report)]


def running(*units, now=0.0):
    """Return a state machine in which these units are all ready."""
    life = Lifecycle()
    todo = launches(life.apply(units, now))
    while todo:
        name = todo.pop()
        if life.records[name].unit.kind == JOB:
            todo += launches(life.exited(name, 0, "", now))
        else:
            todo += launches(life.ready(name, now))
    return life


def state(life, name):
    return life.records[name].state


def test_a_fork_server_starts_when_it_is_first_needed():
    life = Lifecycle()
    assert launches(life.apply([SERVER], 0.0)) == []
    assert launches(life.apply([ONE], 0.0)) == ["server"]


def test_fork_servers_of_one_parent_start_together():
    parent = Unit("parent", FORK_SERVER)
    children = [Unit(name, FORK_SERVER, ("parent",)) for name in ("a", "b")]
    services = [Unit(name, SERVICE, (name[0],)) for name in ("a1", "b1")]
    life = Lifecycle()
    assert launches(life.apply([parent, *children, *services], 0.0)) == ["parent"]
    assert launches(life.ready("parent", 1.0)) == ["a", "b"]


def test_a_process_starts_when_what_it_needs_is_ready():
    life = Lifecycle()
    life.apply([SERVER, TWO, ONE], 0.0)
    assert launches(life.ready("server", 1.0)) == ["one"]
    assert launches(life.ready("one", 2.0)) == ["two"]


def test_ready_tells_how_long_the_start_took():
    life = Lifecycle()
    life.apply([SERVER, ONE], 0.0)
    life.ready("server", 1.0)
    (report,) = life.ready("one", 3.5)
    assert report.event.seconds == 2.5


def test_the_same_plan_again_restarts_nothing():
    life = running(SERVER, ONE, TWO)
    actions = life.apply([SERVER, ONE, TWO], 1.0)
    assert states(actions) == [("one", ProcessState.READY), ("two", ProcessState.READY)]
    assert launches(actions) == []


def test_a_job_runs_once_per_application():
    life = running(SERVER, TASK)
    assert state(life, "task") is ProcessState.DONE
    assert launches(life.apply([SERVER, TASK], 1.0)) == ["task"]
    assert launches(life.apply([SERVER, TASK], 2.0)) == []


def test_a_changed_process_is_stopped_and_started_again():
    life = running(SERVER, ONE)
    changed = Unit("one", SERVICE, ("server",), "changed")
    assert signals(life.apply([SERVER, changed], 1.0)) == [("one", signal.SIGTERM)]
    assert launches(life.exited("one", 0, "", 2.0)) == ["one"]
    assert life.records["one"].unit is changed


def test_units_outside_a_plan_are_left_alone():
    life = running(SERVER, ONE)
    other = Unit("other", SERVICE, ("server",))
    assert launches(life.apply([SERVER, other], 1.0)) == ["other"]
    assert state(life, "one") is ProcessState.READY


def test_a_crash_is_followed_by_a_restart_after_the_delay():
    life = running(SERVER, ONE)
    life.exited("one", -9, "killed", 10.0)
    assert state(life, "one") is ProcessState.RESTARTING
    assert life.next_deadline() == pytest.approx(10.1)
    assert launches(life.tick(10.05)) == []
    assert launches(life.tick(10.1)) == ["one"]
    assert life.records["one"].restarts == 1


def test_the_delay_doubles_up_to_its_limit():
    policy = Policy(first_delay_s=1.0, longest_delay_s=10.0)
    assert [policy.delay_s(strikes) for strikes in (1, 2, 3, 4, 5, 1000)] == [1, 2, 4, 8, 10, 10]


def test_crashes_are_forgotten_after_a_minute_of_health():
    life = running(SERVER, ONE)
    life.exited("one", 1, "", 0.0)
    life.tick(1.0)
    life.ready("one", 1.0)
    assert life.records["one"].strikes == 1
    life.tick(60.9)
    assert life.records["one"].strikes == 1
    life.tick(61.0)
    assert life.records["one"].strikes == 0


def test_a_process_that_was_never_ready_fails_at_the_third_attempt():
    life = running(SERVER)
    life.apply([ONE], 0.0)
    life.ready("server", 0.0)
    now = 0.0
    for _attempt in range(2):
        life.exited("one", 1, "crashed", now)
        assert state(life, "one") is ProcessState.RESTARTING
        now = life.records["one"].deadline
        life.tick(now)
    life.exited("one", 1, "crashed", now)
    assert state(life, "one") is ProcessState.FAILED
    assert life.records["one"].detail == "crashed"


def test_a_process_that_has_been_ready_is_never_given_up():
    life = running(SERVER, ONE)
    for _crash in range(20):
        life.exited("one", 1, "crashed", 0.0)
        assert state(life, "one") is ProcessState.RESTARTING
        deadline = life.records["one"].deadline
        life.tick(deadline)
        assert state(life, "one") is ProcessState.STARTING


def test_units_that_need_a_failed_one_fail_with_its_reason():
    life = Lifecycle()
    life.apply([SERVER, ONE, TWO], 0.0)
    actions = life.exited("server", 1, "no such module", 1.0)
    assert set(states(actions)) == {(name, ProcessState.FAILED) for name in ("server", "one", "two")}
    assert "no such module" in life.records["two"].detail


def test_a_failed_one_is_tried_again_by_the_next_plan():
    life = Lifecycle()
    life.apply([SERVER, ONE], 0.0)
    life.exited("server", 1, "no memory", 1.0)
    assert launches(life.apply([SERVER, ONE], 2.0)) == ["server"]


def test_a_job_that_fails_is_not_repeated():
    life = Lifecycle()
    life.apply([SERVER, TASK, Unit("after", SERVICE, ("server", "task"))], 0.0)
    life.ready("server", 0.0)
    life.exited("task", 1, "no", 1.0)
    assert state(life, "task") is ProcessState.FAILED
    assert state(life, "after") is ProcessState.FAILED


def test_one_that_hangs_while_starting_is_aborted_then_killed_and_has_failed():
    life = Lifecycle()
    life.apply([SERVER, Unit("one", SERVICE, ("server",), ready_timeout_s=5.0)], 0.0)
    life.ready("server", 0.0)
    assert signals(life.tick(5.0)) == [("one", signal.SIGABRT)]
    assert signals(life.tick(7.0)) == [("one", signal.SIGKILL)]
    life.ready("one", 7.1)  # too late
    life.exited("one", -9, "killed", 7.2)
    assert state(life, "one") is ProcessState.FAILED
    assert life.records["one"].detail == "not ready after 5 s; killed"


def test_one_that_reports_progress_gets_more_time():
    life = Lifecycle()
    life.apply([SERVER, Unit("one", SERVICE, ("server",), ready_timeout_s=5.0)], 0.0)
    life.ready("server", 0.0)
    life.starting("one", 4.0)
    assert signals(life.tick(8.9)) == []
    life.starting("one", 8.9)
    assert signals(life.tick(13.8)) == []
    assert signals(life.tick(13.9)) == [("one", signal.SIGABRT)]
    life.starting("one", 14.0)  # too late
    assert signals(life.tick(15.9)) == [("one", signal.SIGKILL)]


@pytest.mark.parametrize("kind", [JOB, SERVICE])
def test_progress_concerns_only_the_start_of_a_service(kind):
    life = Lifecycle()
    life.apply([SERVER, Unit("one", kind, ("server",), ready_timeout_s=5.0)], 0.0)
    life.ready("server", 0.0)
    life.ready("one", 1.0)
    before = life.records["one"].deadline
    assert life.starting("one", 2.0) == []
    assert life.starting("nobody", 2.0) == []
    assert life.records["one"].deadline == before


def test_units_that_need_others_stop_first():
    life = running(SERVER, ONE, TWO)
    assert signals(life.stop(["one", "two"], 1.0)) == [("two", signal.SIGTERM)]
    actions = life.exited("two", 0, "", 2.0)
    assert signals(actions) == [("one", signal.SIGTERM)]
    assert Forget("two") in actions
    life.exited("one", 0, "", 3.0)
    assert set(life.records) == {"server"}


def test_one_that_ignores_sigterm_is_killed():
    life = running(SERVER, ONE)
    life.stop(["one"], 1.0)
    assert signals(life.tick(15.9)) == []
    assert signals(life.tick(16.0)) == [("one", signal.SIGKILL)]


def kills(actions):
    return [action.name for action in actions if isinstance(action, Kill)]


def test_killed_units_are_removed_immediately_and_stay_removed():
    life = running(SERVER, ONE, TWO)
    actions = life.kill(["one", "two", "nobody"], 1.0)
    assert (kills(actions), signals(actions)) == (["one", "two"], [])
    gone = [*life.exited("one", -9, "killed", 1.1), *life.exited("two", -9, "killed", 1.1)]
    assert states(gone) == [("one", ProcessState.STOPPED), ("two", ProcessState.STOPPED)]
    assert launches(life.tick(100.0)) == []
    assert list(life.records) == ["server"]


def test_killing_what_is_about_to_be_restarted_forgets_it():
    life = running(SERVER, ONE)
    life.exited("one", 1, "crash", 1.0)
    assert (kills(actions := life.kill(["one"], 1.01)), states(actions)) == ([], [("one", ProcessState.STOPPED)])
    assert launches(life.tick(100.0)) == []


def test_a_unit_killed_while_stopping_or_restarting_is_neither_awaited_nor_started():
    life = running(SERVER, ONE, TWO)
    life.restart("one", 1.0)
    life.stop(["two"], 1.0)
    assert kills(life.kill(["one", "two"], 1.1)) == ["one", "two"]
    assert launches(life.exited("one", -9, "killed", 1.2)) == []
    assert "one" not in life.records


def test_one_that_outlives_its_killing_is_killed_again():
    life = running(SERVER, ONE)
    life.kill(["one"], 1.0)
    assert signals(life.tick(16.0)) == [("one", signal.SIGKILL)]


def test_stopping_what_does_not_run_forgets_it():
    life = Lifecycle()
    life.apply([SERVER, ONE], 0.0)
    assert states(life.stop(["one", "nobody"], 1.0)) == [("one", ProcessState.STOPPED)]
    assert "one" not in life.records


def test_a_unit_started_while_it_stops_is_started_again():
    life = running(SERVER, ONE)
    life.stop(["one"], 1.0)
    life.apply([SERVER, ONE], 1.1)
    assert launches(life.exited("one", 0, "", 2.0)) == ["one"]


def test_a_unit_stopped_while_it_restarts_stays_stopped():
    life = running(SERVER, ONE)
    life.restart("one", 1.0)
    life.stop(["one"], 1.1)
    assert launches(life.exited("one", 0, "", 2.0)) == []
    assert "one" not in life.records


def test_a_fork_server_that_dies_comes_back_alone():
    life = running(SERVER, ONE)
    life.exited("server", -9, "killed", 1.0)
    assert state(life, "one") is ProcessState.READY
    assert launches(life.tick(1.1)) == ["server"]


def test_a_crashed_process_waits_for_its_fork_server():
    life = running(SERVER, ONE)
    life.exited("server", -9, "killed", 1.0)
    life.exited("one", -9, "killed", 1.0)
    assert launches(life.tick(1.2)) == ["server"]
    assert launches(life.ready("server", 2.0)) == ["one"]


def test_a_need_that_was_stopped_is_not_an_obstacle():
    life = running(SERVER, ONE, TWO)
    life.stop(["one"], 1.0)
    life.exited("one", 0, "", 1.0)
    life.exited("two", 1, "", 2.0)
    assert launches(life.tick(3.0)) == ["two"]


def test_late_and_unknown_reports_change_nothing():
    life = running(SERVER, ONE)
    assert life.ready("nobody", 1.0) == []
    assert life.exited("nobody", 0, "", 1.0) == []
    assert life.ready("one", 1.0) == []
