from atoll.bench.crashes.point import Point
from atoll.bench.crashes.trial import Trial, untried

A, B, C = (Point("paris/nova", name, 1) for name in "abc")


def trial(*planned, deaths=0, points=()):
    return Trial("boot", planned, deaths, (), (), points)


def test_point_at_which_nothing_died_is_untried():
    quiet = trial(points=(A, B, B, C))
    assert untried([quiet], "boot") == [A, B, C]
    assert untried([quiet, trial(A, deaths=1, points=(A, B, C)), trial(C, deaths=1)], "boot") == [B]


def test_planned_death_that_was_not_reached_is_not_a_trial():
    quiet = trial(points=(A, B))
    assert untried([quiet, trial(A, deaths=0), trial(B, A, deaths=1)], "boot") == [A]


def test_point_that_depends_on_timing_need_not_be_tried():
    assert untried([trial(points=(A, B)), trial(points=(C, A))], "boot") == [A]


def test_points_of_a_recovery_need_no_trial():
    assert untried([trial(points=(A,)), trial(A, deaths=1, points=(A, Point("paris/nova", "d", 1, 1)))], "boot") == []


def test_points_of_other_workflows_are_ignored():
    other = Trial("delete", (A,), 1, (), (), (A, B))
    assert untried([trial(points=(A,)), other], "boot") == [A]
