"""Plans are optimal: compared with every placement of small instances; larger ones with a proven gap, in time."""

import time
from itertools import chain, combinations, product
from math import inf, isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_problems import PLAN, make_large, make_problem

from atoll.cloud import parse_cloud
from atoll.errors import AtollError
from atoll.experiment.plan import planning
from atoll.experiment.plan.conflict import explain
from atoll.experiment.plan.costs import Costs
from atoll.experiment.plan.document import Prices, parse_plan
from atoll.experiment.plan.moves import binding, moves
from atoll.experiment.plan.placement import Placement, price, usages
from atoll.experiment.plan.planning import cloud_file, place, solve_plan, to_json
from atoll.experiment.plan.problem import Demand, Picture
from atoll.experiment.plan.program import Bound, Model, bounds
from atoll.experiment.plan.solver import solve
from atoll.experiment.plan.start import start

COUNT = 3


def subsets(members):
    return [frozenset(each) for each in chain.from_iterable(combinations(members, size) for size in range(1, len(members) + 1))]


def placements(problem):
    """Yield every placement, cheap and dear, allowed and forbidden."""
    for full in subsets(range(problem.count)):
        controls = [[site] if site in full else sorted(full) for site in range(problem.count)]
        for chosen in product(*controls):
            if set(chosen) != full:
                continue
            for copies in product(*(subsets(sorted(full)) for _ in problem.images)):
                keys = [(image, site) for image in range(len(problem.images)) for site in problem.image_users(image)]
                for sources in product(*(sorted(copies[image]) for image, _site in keys)):
                    yield Placement(chosen, copies, dict(zip(keys, sources, strict=True)))


def cheapest(problem):
    """Return the lowest price of a placement that keeps all bounds; infinite if there is none."""
    allowed = (each for each in placements(problem) if not any(usage.broken for usage in usages(problem, each)))
    return min((price(problem, each) for each in allowed), default=inf)


numbers = st.integers(0, 8)
limits = st.one_of(st.just(inf), st.integers(0, 12).map(float))


@st.composite
def problems(draw):
    """Small integers everywhere: ties and bounds that are just kept or just broken are common."""
    by_site = st.tuples(*[numbers] * COUNT)
    rtt = [[0.0] * COUNT for _ in range(COUNT)]
    for a, b in combinations(range(COUNT), 2):
        rtt[a][b] = rtt[b][a] = float(draw(st.integers(1, 5)))
    images = draw(st.integers(0, 2))
    demands = [Demand("list", Costs(1.0, draw(st.integers(0, 3)), draw(numbers)), draw(limits), None, draw(by_site))]
    demands += [
        Demand(f"boot-{image}", Costs(0.0, draw(st.integers(0, 2)), draw(numbers)), draw(limits), image, draw(by_site))
        for image in range(images)
    ]
    return make_problem(
        COUNT,
        kinds=draw(st.tuples(*[st.sampled_from([None, None, "full", "compute"])] * COUNT)),
        rtt_s=tuple(map(tuple, rtt)),
        byte_s=tuple(tuple(0.0 if a == b else 0.5 for b in range(COUNT)) for a in range(COUNT)),
        demands=tuple(demands),
        images=tuple(Picture(f"image-{image}", draw(st.integers(1, 4)), draw(st.sampled_from([0.0, 0.5, 1.0]))) for image in range(images)),
        full=draw(st.integers(2, 6)),
        compute=1,
        controlled=draw(st.integers(0, 2)),
        memory=draw(st.tuples(*[limits] * COUNT)),
        disk=draw(st.tuples(*[limits] * COUNT)),
        wan=draw(st.tuples(*[limits.map(lambda each: 5 * each)] * COUNT)),
        wan_total=draw(limits.map(lambda each: 10 * each)),
        survive=draw(st.integers(0, 2)),
        full_sites=draw(st.sampled_from([inf, inf, 1, 2])),
        mesh=float(draw(numbers)),
        prices=Prices(waiting=3600.0, memory=1e9, disk=draw(st.sampled_from([0.0, 1e9])), wan=1e9),
    )


@settings(max_examples=150, deadline=None)
@given(problems())
def test_a_small_plan_is_the_cheapest_of_all_placements(problem):
    expected = cheapest(problem)
    if expected == inf:
        with pytest.raises(AtollError, match="no plan is possible"):
            place(problem, 60.0)
        return
    found, gap, _seconds = place(problem, 60.0)
    assert gap <= 1e-9
    assert isclose(price(problem, found), expected, rel_tol=1e-6, abs_tol=1e-6)


def test_a_start_that_is_not_the_cheapest_is_not_taken_for_it():
    """HiGHS returns the start with the cost of the best solution, if its presolve alone finds that one."""
    problem = make_problem(
        COUNT,
        kinds=(None, "full", None),
        rtt_s=((0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0)),
        byte_s=((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)),
        demands=(
            Demand("list", Costs(1.0, 0, 0), inf, None, (0, 0, 0)),
            Demand("boot-0", Costs(0.0, 0, 0), inf, 0, (0, 1, 3)),
            Demand("boot-1", Costs(0.0, 0, 0), inf, 1, (0, 0, 0)),
        ),
        images=(Picture("image-0", 1, 0.5), Picture("image-1", 1, 0.0)),
        full=2,
        compute=1,
        controlled=0,
        memory=(inf,) * COUNT,
        disk=(inf,) * COUNT,
        wan=(inf,) * COUNT,
        wan_total=inf,
        survive=0,
        full_sites=inf,
        mesh=0.0,
        prices=Prices(waiting=3600.0, memory=1e9, disk=1e9, wan=1e9),
    )
    found, gap, _seconds = place(problem, 60.0)
    assert price(problem, found) == cheapest(problem) == 8.0
    assert gap == 0.0


@settings(max_examples=50, deadline=None)
@given(problems())
def test_without_any_of_the_bounds_that_contradict_a_plan_exists(problem):
    if solve(Model(problem).program, 60.0).values is not None:
        return
    said = explain(problem, 60.0)
    named = [
        bound for bound in bounds(problem) if (f"`{bound.kind}` of {bound.operation}" if bound.operation else f"`{bound.kind}`") in said
    ]
    others = frozenset(bounds(problem)) - set(named)
    assert named
    assert solve(Model(problem, others).program, 60.0).infeasible
    for bound in named:
        assert solve(Model(problem, others | {bound}).program, 60.0).values is not None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"memory": (50.0, inf, inf)}, "no plan is possible: `memory` (at s0: 100B would suffice instead of 50B) can't be kept"),
        ({"memory": (300.0, 200.0, 200.0)}, "no plan is possible: `memory` (at s0: 520B would suffice instead of 300B) can't be kept"),
        (
            {"memory": (inf, 300.0, 300.0), "demands": (Demand("list", Costs(0.1, 10, 0), 0.15, None, (1.0, 1.0, 0.0)),)},
            (
                "`within` of list (at s1: 200ms would suffice instead of 150ms) and "
                "`memory` (at s1: 500B would suffice instead of 300B) contradict"
            ),
        ),
        (
            {"survive": 3},
            (
                "no plan is possible: `survive` (at s0: 2 would suffice instead of 3, "
                "at s1: 2 would suffice instead of 3, and 1 more) can't be kept"
            ),
        ),
        (
            {"survive": 1, "full_sites": 1},
            (
                "no plan is possible: `full_sites` (of the cloud: 2 would suffice instead of 1) and "
                "`survive` (at s0: 0 would suffice instead of 1"
            ),
        ),
        ({"kinds": ("compute",) * 3}, "no plan is possible: `kind` (at s"),
    ],
    ids=["too small for anything", "no room for a full site", "far and small", "too few sites", "too few full sites", "no full site"],
)
def test_bounds_that_contradict_are_named(changes, expected):
    said = explain(make_problem(**changes), 60.0)
    assert expected in said
    assert "\n" not in said


def test_the_bound_that_forbids_a_cheaper_plan_binds():
    problem = make_problem(memory=(inf, 300.0, inf), prices=Prices(waiting=1, memory=0, disk=0, wan=0))
    found, _gap, _seconds = place(problem, 60.0)
    assert found.full == {0, 2}
    (bound,) = binding(moves(problem, found))
    assert (bound.usage.bound, bound.usage.subject, bound.usage.used, bound.usage.limit) == ("memory", "s1", 500, 300)
    assert bound.move.text == "make s1 a full site"
    assert isclose(-bound.move.extra_price, 60 * 10 * 0.01 / 3600)


def test_no_move_that_keeps_the_bounds_is_cheaper_than_the_plan():
    problem = make_large(12, 2, seed=1, survive=1)
    found, gap, _seconds = place(problem, 60.0)
    assert gap <= 1e-9
    made = moves(problem, found)
    assert len(made) > 20
    assert min(move.extra_price for move in made if not move.breaks) >= -1e-9
    assert [move.extra_price for move in made] == sorted(move.extra_price for move in made)


def test_moving_names_each_instance():
    problem = make_problem(prices=Prices(waiting=0, memory=1e6, disk=0, wan=0))
    found, _gap, _seconds = place(problem, 60.0)
    (site,) = found.full
    texts = {move.text for move in moves(problem, found)}
    others = [name for name in problem.names if name != problem.names[site]]
    assert {f"move the full site {problem.names[site]} to {other}" for other in others} <= texts
    assert {f"make {other} a full site" for other in others} <= texts


def test_a_plan_becomes_a_cloud():
    plan = parse_plan(PLAN, "plan.yaml")
    solved = solve_plan(plan, lambda _name: pytest.fail("no trace is needed"), 60.0)
    text = cloud_file(plan, solved)
    cloud = parse_cloud(text, "cloud.yaml")
    assert [(site.name, site.kind, site.control) for site in cloud.sites] == [("paris", "full", None), ("lyon", "compute", "paris")]
    assert cloud.network.rtt_ms("paris", "lyon") == 10
    assert "image set --property atoll_keep=paris debian" in text
    told = to_json(solved)
    assert told["instances"] == {"keystone": 1, "placement": 1, "glance": 1, "neutron": 1, "nova": 1, "nova-compute": 2}
    assert told["images"] == {"debian": ["paris"]}
    # 62 round trips of 10 ms, and one for the image, which the link without a rate carries at once
    assert [site["latency_s"]["boot"] for site in told["sites"]] == [pytest.approx(0.9), pytest.approx(0.9 + 0.62 + 0.01)]


def test_the_time_limit_is_told_as_a_gap():
    problem = make_large(60, 3, seed=1, survive=1)
    found, gap, seconds = place(problem, 60.0, gap=0.5)
    assert 0 <= gap <= 0.5
    assert seconds < 60
    assert not any(usage.broken for usage in usages(problem, found))


def test_too_little_time_gives_no_plan(monkeypatch):
    monkeypatch.setattr(planning, "start", lambda *_arguments: None)
    with pytest.raises(AtollError, match=r"no plan was found in 0\.001 s") as raised:
        place(make_large(80, 3, seed=1, survive=1), 0.001)
    assert raised.value.kind.code == "plan.unsolved"


def test_a_bound_without_a_limit_is_none():
    assert bounds(make_problem()) == []
    assert Bound("within", "list") in bounds(make_problem(demands=(Demand("list", Costs(1, 1, 1), 2.0, None, (1.0, 0.0, 0.0)),)))


@pytest.mark.long
@pytest.mark.parametrize(("images", "survive"), [(1, 1), (3, 0)], ids=["one image, one failure", "three images"])
def test_200_sites_are_planned_within_a_minute(images, survive):
    problem = make_large(200, images, seed=1, survive=survive)
    begun, used = time.monotonic(), time.process_time()
    found, gap, _seconds = place(problem, 58.0)
    assert not any(usage.broken for usage in usages(problem, found))
    elapsed, used = time.monotonic() - begun, time.process_time() - used
    # A processor that others use too has no minute in a minute: the plan is then the best found, with its gap
    if used > 0.75 * elapsed:
        assert gap <= 0.01
        assert elapsed < 70


def test_the_solver_begins_with_a_plan_that_keeps_all_bounds():
    problem = make_large(40, 2, seed=2, survive=1)
    first = start(problem, 60.0)
    assert not any(usage.broken for usage in usages(problem, first))
    assert len(first.full) < sum(map(problem.can_be_full, range(40))), "useless full sites are dropped"
    assert Model(problem).values(first) is not None, "no pair of it is left out of the program"
    found, gap, _seconds = place(problem, 3.0)
    assert price(problem, found) <= price(problem, first) + 1e-9
    assert gap >= 0


def test_without_time_for_the_solver_the_first_plan_is_the_best_found():
    problem = make_large(80, 3, seed=1, survive=1)
    found, gap, _seconds = place(problem, 0.01)
    assert gap == inf
    assert not any(usage.broken for usage in usages(problem, found))


def test_without_room_there_is_no_start():
    assert start(make_problem(memory=(300.0,) * 3), 60.0) is None
    assert start(make_problem(full_sites=2), 60.0) is None
