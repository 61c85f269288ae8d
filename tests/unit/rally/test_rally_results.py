"""Rally's JSON report: iterations and actions become operations, and no failure is dropped."""

from atoll.rally.results import RallyOperation, operations, unfinished

NAME = "NovaServers.boot_and_delete_server"


def action(name, started, ended, **more):
    return {"name": name, "started_at": started, "finished_at": ended, "children": [], **more}


def report(*iterations, contexts=(), runner=None):
    runner = runner or {"constant": {"times": len(iterations), "concurrency": 1}}
    workload = {"scenario": {NAME: {}}, "runner": runner, "data": list(iterations), "contexts_results": list(contexts)}
    return {"tasks": [{"subtasks": [{"workloads": [workload]}]}]}


def iteration(*actions, error=(), timestamp=100.0, duration=3.0):
    return {"timestamp": timestamp, "duration": duration, "idle_duration": 0.5, "error": list(error), "atomic_actions": list(actions)}


def context(name, setup=None, cleanup=None):
    return {
        "plugin_name": name,
        "setup": {"started_at": 1.0, "finished_at": 2.0, "error": setup},
        "cleanup": {"started_at": 5.0, "finished_at": 7.0, "error": cleanup},
    }


def test_iterations_and_actions_are_operations():
    nested = action("neutron.create_network", 101.0, 102.0)
    found = list(operations(report(iteration({**action("nova.boot_server", 100.0, 102.5), "children": [nested]}))))
    assert found == [
        RallyOperation(NAME, 100.0, 103.0, ""),
        RallyOperation("nova.boot_server", 100.0, 102.5, ""),
        RallyOperation("nova.boot_server/neutron.create_network", 101.0, 102.0, ""),
    ]


def test_a_failed_iteration_keeps_its_reason_and_its_actions():
    failed = iteration(
        action("nova.boot_server", 100.0, 101.0),
        action("nova.delete_server", 101.0, 103.0, failed=True),
        error=["TimeoutException", "The server\ndid not go", "Traceback …"],
    )
    found = list(operations(report(iteration(), failed)))
    assert [each.error for each in found] == [
        "", "TimeoutException: The server did not go", "", "TimeoutException: The server did not go"
    ]  # fmt: skip


def test_a_failed_clean_up_is_an_operation():
    cause = {"etype": "Conflict", "msg": "in use", "trace": "…"}
    assert list(operations(report(contexts=[context("users@openstack"), context("network@openstack", cleanup=cause)]))) == [
        RallyOperation("cleanup of network@openstack", 5.0, 7.0, "Conflict: in use")
    ]


def test_missing_iterations_are_told():
    assert unfinished(report(iteration(), iteration())) == ""
    assert unfinished(report(iteration(), runner={"constant": {"times": 3}})) == f"{NAME}: 1 of 3 iterations ran"
    assert unfinished(report(runner={"constant_for_duration": {"duration": 3}})) == f"{NAME}: 0 of 1 iterations ran"


def test_a_failed_set_up_is_told():
    cause = {"etype": "Forbidden", "msg": "no quota", "trace": "…"}
    expected = f"{NAME}: the set-up of the context users@openstack failed: Forbidden: no quota"
    assert unfinished(report(contexts=[context("users@openstack", setup=cause)])) == expected
