from atoll.bench.samples import median


def test_median():
    assert (median([3, 1, 2.00049]), median([])) == (2.0, None)
