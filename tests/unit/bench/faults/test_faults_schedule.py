import json
from itertools import combinations

import pytest

from atoll.bench.faults.kinds import KINDS, SERVER_KINDS
from atoll.bench.faults.operation import Operation, Session
from atoll.bench.faults.schedule import Schedule, schedule, site_of
from atoll.bench.faults.workloads import WORKLOADS

SITES = ("paris", "lyon", "nice", "lille", "brest")


def operations(plan: Schedule) -> list[Operation]:
    return [each for of_client in plan.clients.values() for each in of_client]


@pytest.fixture(scope="module")
def plan() -> Schedule:
    return schedule(7, 300, SITES, 2)


def test_the_same_seed_makes_the_same_schedule_and_another_makes_another(plan):
    assert schedule(7, 300, SITES, 2) == plan
    other = schedule(8, 300, SITES, 2)
    assert other.clients != plan.clients
    assert other.faults != plan.faults


def test_a_schedule_can_be_kept_and_done_again(plan):
    assert Schedule.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_every_kind_of_operation_and_of_fault_is_there(plan):
    kinds = {each.kind for each in operations(plan)}
    assert {kind.partition(".")[0] for kind in kinds} == set(WORKLOADS)
    assert {f"{type_}.{verb}" for type_ in WORKLOADS for verb in ("create", "delete")} <= kinds
    assert {fault.kind for fault in plan.faults} == set(KINDS)
    assert {zone for each in operations(plan) if (zone := each.fields.get("zone"))} == set(SITES)


def test_database_servers_are_killed_only_where_sites_start_them(plan):
    other = schedule(7, 300, SITES, 2, "start:mariadb")
    assert {fault.kind for fault in other.faults} == set(SERVER_KINDS) == {*KINDS, "kill_database"}
    assert other.clients == plan.clients
    kept = json.loads(json.dumps(other.to_json()))
    assert Schedule.from_json(kept) == other
    del kept["database"]
    assert Schedule.from_json(kept).database == "sqlite", "an older kept run has no database"


def test_all_is_over_in_time_and_each_client_is_at_its_site(plan):
    assert max(fault.at_s + fault.lasts_s for fault in plan.faults) <= 300.001
    assert {site_of(client) for client in plan.clients} == set(SITES)
    assert all(each.at_s < 300 for each in operations(plan))
    assert [fault.at_s for fault in plan.faults] == sorted(fault.at_s for fault in plan.faults)


def test_nothing_is_done_twice_to_one_thing_at_the_same_time(plan):
    for first, second in combinations(plan.faults, 2):
        if KINDS[first.kind].claims(first.target) & KINDS[second.kind].claims(second.target):
            assert second.at_s >= first.at_s + first.lasts_s, (str(first), str(second))


def test_names_are_unique_but_for_twins_which_other_sites_have_too(plan):
    made = [(client, each) for client, of_client in plan.clients.items() for each in of_client if each.kind.endswith(".create")]
    resources = [each.resource for _client, each in made if each.type != "grant"]
    assert len(resources) == len(set(resources))
    twins: dict[str, set[str]] = {}
    for client, each in made:
        if each.type == "user" and each.fields["name"] != each.resource:
            twins.setdefault(each.fields["name"], set()).add(site_of(client))
    assert any(len(sites) > 1 for sites in twins.values())


def test_some_users_are_written_by_clients_of_two_sites_after_they_were_made(plan):
    made = {each.resource: (each.at_s, site_of(client)) for client, of in plan.clients.items() for each in of if each.kind == "user.create"}
    foreign = [
        (each, made[each.resource][0])
        for client, of in plan.clients.items()
        for each in of
        if each.kind == "user.describe" and made[each.resource][1] != site_of(client)
    ]
    assert foreign
    assert all(each.at_s > made_s for each, made_s in foreign)


@pytest.mark.parametrize("seed", range(5))
def test_a_client_does_nothing_to_what_it_has_not_made_or_has_deleted(seed):
    plan = schedule(seed, 300, SITES[:2], 1)
    for client, of_client in plan.clients.items():
        live: set[str] = set()
        for each in of_client:
            if each.kind.endswith(".create"):
                live.add(each.resource)
                continue
            foreign = f"-{client.replace('/', '-')}-" not in each.resource
            assert foreign or each.resource in live, each
            if each.kind.endswith(".delete"):
                live = {resource for resource in live if resource != each.resource and each.resource not in resource.split("/")}


def test_operations_on_missing_resources_are_left_out_and_all_others_have_requests(plan):
    nobody, somebody = Session({}), Session({"image": "i", "flavor": "f", "network": "n"}, lambda name: f"id-of-{name}")
    for each in operations(plan):
        for resource in (each.resource, *each.resource.split("/")):
            somebody.learn(resource, f"id-of-{resource}")
        request = WORKLOADS[each.type].request(somebody, each)
        assert request is not None
        json.dumps(request.body)
        if each.kind.endswith(".create") and each.type != "grant":
            assert not request.id
        else:
            assert WORKLOADS[each.type].request(nobody, each) is None
