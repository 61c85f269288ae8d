from atoll.bench.cloud.agreement import spread
from atoll.bench.cloud.experiment import CloudOptions
from atoll.bench.cloud.gateway import carried
from atoll.cli.bench_cloud import KEYS, _table


def test_things_are_spread_evenly():
    assert spread(1000, ["a", "b", "c"]) == {"a": 334, "b": 333, "c": 333}
    assert sum(spread(7, [str(n) for n in range(10)]).values()) == 7


def test_defaults_are_those_of_the_targets():
    options = CloudOptions()
    assert (options.sizes, options.rtt_ms, options.servers) == ((3, 10), 100, 1000)
    assert (options.apart_s, options.changes, options.image_mib) == (600, 1000, 1024)


def test_table_shows_each_size():
    sample = dict.fromkeys(KEYS, 1.5) | {"sites": 3}
    table = _table([sample, {**sample, "sites": 10}])
    assert [column.header for column in table.columns] == ["", "3 SITES", "10 SITES"]
    assert table.row_count == len(KEYS)


def test_only_bytes_between_the_two_readings_are_counted():
    before = {(8443, 1): 100, (8443, 2): 50}
    assert carried(before, {(8443, 1): 130, (8443, 3): 7}) == 37
    assert carried(before, before) == 0


def test_parts_that_can_be_chosen_are_those_that_there_are():
    from atoll.bench.cloud.experiment import MEASURES
    from atoll.cli.bench_cloud import PARTS

    assert tuple(MEASURES) == PARTS


def test_only_chosen_measurements_run_and_each_is_reported_immediately(monkeypatch):
    from types import SimpleNamespace

    from atoll.bench.cloud import experiment

    monkeypatch.setattr(experiment.workload, "prepare", lambda _api: None)
    parts = {name: (f"{name} of {{servers}}", lambda *_, name=name: {name: 1}) for name in ("list", "boots", "image")}
    monkeypatch.setattr(experiment, "MEASURES", parts)
    told: list[str] = []
    made = SimpleNamespace(names=["a"], api=lambda _site: None)
    assert experiment._measure(made, CloudOptions(only=("image", "list")), told.append) == {"list": 1, "image": 1}
    assert told == ["list of 1000", '{"list": 1}', "image of 1000", '{"image": 1}']
    assert experiment._measure(made, CloudOptions(), told.append) == {"list": 1, "boots": 1, "image": 1}
