"""The summary of boots over sites that share one Nova."""

from itertools import islice

from atoll.bench.shared_boots import SharedBoot, _rounds, summary


def test_each_api_boots_on_each_host_equally_often():
    pairs = list(islice(_rounds(["a", "b"]), 8))
    assert all(pairs.count((through, zone)) == 2 for through in "ab" for zone in "ab")


def test_failures_are_counted_with_their_reasons():
    boots = [*(SharedBoot("a", "b", str(number), number / 100) for number in range(1, 101)), SharedBoot("b", "b", "x", failure="no host")]
    found = summary(boots, 50)
    assert (found["boots"], found["failures"], found["reasons"], found["pairs"]) == (101, 1, {"no host": 1}, 1)
    assert (found["boot_p50_s"], found["boot_p99_s"], found["boots_per_s"]) == (0.51, 1.0, 2.0)


def test_without_a_success_there_are_no_times():
    found = summary([SharedBoot("a", "a", failure="refused")], 1)
    assert (found["failures"], found["boot_p50_s"], found["boot_p99_s"]) == (1, None, None)
