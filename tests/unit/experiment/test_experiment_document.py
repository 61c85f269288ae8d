"""Files of experiments: a wrong one is refused before anything starts, in one line with its place; lists are swept."""

import json
import sys
from collections import Counter
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
from refusals import refusal

from atoll.bench.cells import WORKLOADS as RUNNABLE
from atoll.cloud import Cloud
from atoll.errors import AtollError
from atoll.experiment.document import parse_experiment, read_experiment
from atoll.experiment.estimate import seconds
from atoll.experiment.sweep import Cell, cells
from atoll.experiment.workloads import SYSTEMS, WORKLOADS

TEXT = """\
name: small
seed: 1
repetitions: 2
architectures:
- {kind: cooperative, sites: [1, 3]}
- {kind: centralised, sites: 3}
links:
- {delay: [0ms, 50ms], loss: 1%}
workloads:
  boot: {times: [2, 5]}
  list:
"""
_LOADER = SourceFileLoader("studies_script", str(Path(__file__).parents[3] / "scripts" / "studies"))
SCRIPT = module_from_spec(spec_from_loader(_LOADER.name, _LOADER))
sys.modules[_LOADER.name] = SCRIPT  # dataclasses look their module up
_LOADER.exec_module(SCRIPT)
STUDIES = SCRIPT.STUDIES
EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "experiments").glob("*.yaml"))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("name: small", "name: Small", "x.yaml:1: name: expected a name of 1 to 32 lower-case letters"),
        ("seed: 1", "sede: 1", "x.yaml:2: unknown key `sede` (did you mean `seed`?)"),
        (
            "seed: 1",
            f"seed: 0x{'f' * 6000}",
            "x.yaml:2: seed: expected a whole number from 0 to 2147483648, got a number of thousands of digits",
        ),
        (
            "times: [2, 5]",
            f"times: 0x{'f' * 6000}",
            "x.yaml:10: workloads.boot.times: expected a whole number from 1 to 100000, got a number of",
        ),
        ("seed: 1", "seed: 2026-99-99", "x.yaml:2: not YAML that describes an experiment: "),
        ("repetitions: 2", "repetitions: 0", "x.yaml:3: repetitions: expected a whole number from 1 to 1000, got 0"),
        (
            "kind: centralised",
            "kind: central",
            "x.yaml:6: architectures[1].kind: expected `cooperative`, `centralised`, `standard`, `regions`, `file`, ",
        ),
        (
            "kind: centralised, sites: 3",
            "kind: file, file: x, traffic: stock",
            "x.yaml:6: architectures[1]: `traffic` is given beside `file`",
        ),
        ("sites: 3}", "sites: 3, ask: serial}", "x.yaml:6: architectures[1]: `ask` is given for `kind: centralised`, which has no broker"),
        (
            "kind: centralised, sites: 3",
            "kind: regions, ask: often",
            "x.yaml:6: architectures[1].ask[0]: expected `parallel`, `serial`",
        ),
        ("kind: centralised", "kind: file", "x.yaml:6: architectures[1]: `kind: file` and `file` belong together"),
        ("{kind: centralised, sites: 3}", "{kind: file, file: no.yaml}", "x.yaml:6: architectures[1].file: "),
        ("sites: 3", "sites: 0", "x.yaml:6: architectures[1].sites[0]: expected"),
        ("sites: 3", "sites: 65", "x.yaml:6: architectures[1]: 65 sites: expected at most 64"),
        ("50ms", "50", "x.yaml:8: links[0].delay[1]: expected"),
        ("loss: 1%", "lost: 1%", "x.yaml:8: links[0]: unknown key `lost` (did you mean `loss`?)"),
        ("  list:", "  lists:", "x.yaml:11: workloads.lists: no workload is called lists: expected one of boot, boot-many, token"),
        ("times: [2, 5]", "time: 2", "x.yaml:10: workloads.boot.time: boot has no parameter time: expected one of times, order"),
        ("times: [2, 5]", "times: 0", "x.yaml:10: workloads.boot.times: expected a whole number from 1 to 100000, got 0"),
        ("{times: [2, 5]}", "7", "x.yaml:10: workloads.boot: expected a mapping of parameters, got 7"),
        ("workloads:", "databases: mariadb\nworkloads:", "x.yaml:9: databases[0]: expected"),
        ("times: [2, 5]", "times: []", "x.yaml:10: workloads.boot.times: expected a whole number from 1 to 100000, got an empty list"),
        (
            "boot: {times: [2, 5]}",
            "open-load: {rate: []}",
            "x.yaml:10: workloads.open-load.rate: expected a number above 0, at most 100000",
        ),
        ("boot: {times: [2, 5]}", "open-load: {operation: []}", "x.yaml:10: workloads.open-load.operation: expected `token`, "),
        ("boot: {times: [2, 5]}", "open-load: {arrivals: []}", "x.yaml:10: workloads.open-load.arrivals: expected `poisson` or"),
        ("boot: {times: [2, 5]}", "closed-load: {think_s: []}", "x.yaml:10: workloads.closed-load.think_s: expected a number from 0 to"),
        (
            "sites: 3",
            "sites: []",
            "x.yaml:6: architectures[1].sites: expected a whole number from 1 to 64 (`hollow`: from 2 to 5000), or a list of them, ",
        ),
        ("delay: [0ms, 50ms]", "delay: []", "x.yaml:8: links[0].delay: expected a duration"),
        ("workloads:", "databases: []\nworkloads:", "x.yaml:9: databases: expected `sqlite`"),
        ("sites: [1, 3]", "sites: [3, 3]", "x.yaml:5: architectures[0].sites: 3 is in the list twice: expected each value once"),
        (
            "kind: centralised, sites: 3",
            "kind: cooperative, sites: 3",
            "x.yaml:6: architectures[1]: a second cloud called cooperative with sites: 3",
        ),
        ("delay: [0ms, 50ms]", "delay: [0ms, 0ms]", "x.yaml:8: links[0].delay: 0ms is in the list twice"),
        ("workloads:", "- {loss: 1%, delay: 50ms}\nworkloads:", "x.yaml:9: links[1]: an earlier item has the same properties"),
        ("times: [2, 5]", "times: [2, 5, 2]", "x.yaml:10: workloads.boot.times: 2 is in the list twice"),
        ("boot: {times: [2, 5]}", "open-load: {rate: [10, 10.0]}", "x.yaml:10: workloads.open-load.rate: 10.0 is in the list twice"),
        (
            "boot: {times: [2, 5]}",
            "open-load: {rate: 100000000000}",
            "x.yaml:10: workloads.open-load.rate: expected a number above 0, at most",
        ),
        (TEXT, "name: x", "x.yaml:1: `architectures` is missing: expected"),
    ],
    ids=lambda text: text[:80],
)
def test_a_wrong_file_is_refused_with_its_line(before, after, expected):
    assert before in TEXT
    assert refusal("experiment.invalid", parse_experiment, TEXT.replace(before, after), "x.yaml").startswith(expected)


def test_the_number_of_cells_is_bounded_before_any_is_made():
    numbers = list(range(1, 401))
    load = f"open-load: {{rate: {numbers}, seconds: {numbers}}}"
    with pytest.raises(AtollError, match=r"x\.yaml:1: all combinations of the lists make 1920000 cells: expected at most 100000"):
        parse_experiment(TEXT.replace("boot: {times: [2, 5]}", load).replace("list:", "token:").replace("\n  token:", ""), "x.yaml")


def test_the_number_of_cells_is_known_before_they_are_made():
    for path in EXAMPLES:
        experiment = read_experiment(path)
        assert experiment.count == len(cells(experiment, path.parent))


def test_every_combination_is_a_cell():
    made = cells(parse_experiment(TEXT, "x.yaml"), Path())
    assert len(made) == 3 * 2 * (2 + 1) * 2
    assert len({cell.id for cell in made}) == len(made)
    assert len({cell.seed for cell in made}) == len(made)
    groups = Counter(json.dumps(cell.factors, sort_keys=True) for cell in made)
    assert set(groups.values()) == {2}, "two repetitions of each combination"
    assert {cell.label for cell in made if cell.workload == "list"} >= {
        "cooperative, sites 1, delay 0ms, loss 1%, list, times 5, order together",
        "centralised, sites 3, delay 50ms, loss 1%, list, times 5, order together",
    }


def test_the_order_is_random_and_repeats_with_the_seed():
    first, again = (cells(parse_experiment(TEXT, "x.yaml"), Path()) for _ in range(2))
    other = cells(parse_experiment(TEXT.replace("seed: 1", "seed: 2"), "x.yaml"), Path())
    assert first == again
    assert [cell.id for cell in first] != sorted(cell.id for cell in first)
    assert [cell.id for cell in first] != [cell.id for cell in other]
    assert sorted(cell.id for cell in first) == sorted(cell.id for cell in other)


def test_clouds_of_architectures():
    made = {
        (cell.factors["architecture"], cell.factors["sites"], cell.factors["delay"]): cell
        for cell in cells(parse_experiment(TEXT, "x"), Path())
    }
    central = Cloud.model_validate(made["centralised", 3, "50ms"].cloud)
    assert [(site.kind, site.control) for site in central.sites] == [("full", None), ("compute", "site-1"), ("compute", "site-1")]
    assert central.network.rtt_ms("site-1", "site-3") == 100
    assert central.network.wires["site-1", "site-3"].loss == 0.01
    cooperative = Cloud.model_validate(made["cooperative", 3, "50ms"].cloud)
    assert {site.kind for site in cooperative.sites} == {"full"}
    assert cooperative.network.rtt_ms("site-2", "site-3") == 100
    assert len(Cloud.model_validate(made["cooperative", 1, "0ms"].cloud).sites) == 1


def test_regions_are_full_sites_with_a_broker():
    text = TEXT.replace("kind: centralised, sites: 3", "kind: regions, sites: 3, ask: [serial, parallel]")
    made = [cell for cell in cells(parse_experiment(text, "x"), Path()) if cell.factors["architecture"] == "regions"]
    assert {(cell.broker, cell.factors["ask"]) for cell in made} == {("serial", "serial"), ("parallel", "parallel")}
    assert {site.kind for cell in made for site in Cloud.model_validate(cell.cloud).sites} == {"full"}
    assert {cell.broker for cell in cells(parse_experiment(TEXT, "x"), Path())} == {""}


def test_control_traffic_is_a_factor():
    text = TEXT.replace("kind: centralised, sites: 3", "kind: centralised, sites: 3, traffic: [stock, reduced]")
    made = {cell.factors["traffic"]: cell for cell in cells(parse_experiment(text, "x"), Path()) if "traffic" in cell.factors}
    sites = {name: Cloud.model_validate(cell.cloud).full_sites for name, cell in made.items()}
    assert {name: [site.traffic for site in found] for name, found in sites.items()} == {"stock": ["stock"], "reduced": ["reduced"]}


def test_the_cloud_of_a_file_keeps_its_own_links(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "sites: [{name: a}, {name: b}, {name: c}]\ntopology: {preset: mesh, links: [{between: [a, b], delay: 5ms}]}", encoding="utf-8"
    )
    text = TEXT.replace("{kind: centralised, sites: 3}", "{kind: file, file: own.yaml}")
    (cell,) = [
        cell
        for cell in cells(parse_experiment(text, "x", tmp_path), tmp_path)
        if cell.id.endswith("own-list-1") and cell.factors["delay"] == "50ms"
    ]
    network = Cloud.model_validate(cell.cloud).network
    assert (network.rtt_ms("a", "b"), network.rtt_ms("a", "c")) == (10, 100)


def test_the_cloud_of_a_file_without_a_topology_gets_one(tmp_path):
    (tmp_path / "own.yaml").write_text("sites: [{name: a, port: 16000}, {name: b}]", encoding="utf-8")
    text = TEXT.replace("{kind: centralised, sites: 3}", "{kind: file, file: own.yaml}")
    made = cells(parse_experiment(text, "x", tmp_path), tmp_path)
    assert all(Cloud.model_validate(cell.cloud).network for cell in made)


def test_a_cell_survives_json():
    for cell in cells(parse_experiment(TEXT, "x.yaml"), Path()):
        assert Cell.from_json(json.loads(json.dumps(cell.to_json()))).to_json() == json.loads(json.dumps(cell.to_json()))


def test_each_workload_of_files_can_be_run():
    assert set(WORKLOADS) == set(RUNNABLE) | set(SYSTEMS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path):
    experiment = read_experiment(path)
    assert experiment.name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert cells(experiment, path.parent)


def test_every_study_is_an_example_and_tells_its_time():
    made = {}
    for name in STUDIES:
        experiment = read_experiment(EXAMPLES[0].parent / f"{name}.yaml")
        made[name] = seconds(cells(experiment, EXAMPLES[0].parent)) / 60
        sys.stdout.write(f"{name}: about {made[name]:.0f} min\n")
    assert made["boston-2017"] <= 45, "minutes from command to report"
    assert sum(made.values()) <= 5 * 60


def test_studies_are_listed_the_shortest_first_with_the_time_of_all(capsys, tmp_path):
    (tmp_path / "members.complete").touch()
    assert SCRIPT.main(["--list", str(tmp_path)]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(STUDIES)
    minutes = [int(line.split()[3]) for line in lines]
    assert minutes == sorted(minutes)
    assert [line.split()[0] for line in lines if line.endswith("complete")] == ["members"]
    left = sum(study.minutes for study in SCRIPT.studies([]) if study.name != "members")
    assert total.startswith(f"about {left / 60:.1f} h")


def test_only_the_named_studies_run(capsys, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(SCRIPT.os, "geteuid", lambda: 0)
    monkeypatch.setattr(SCRIPT, "run", lambda study, _out, _runs: ran.append(study.name) or study.name != "bus-2018")
    assert SCRIPT.main(["--only", "bus-2018", "--only", "members", str(tmp_path / "out")]) == 1
    assert ran == ["members", "bus-2018"], "the shortest first"
    told = capsys.readouterr()
    assert "h on two idle cores" in told.out
    assert told.err == "error: cells failed in bus-2018\n"


def test_a_study_that_is_complete_is_not_run_again(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(SCRIPT.os, "geteuid", lambda: 0)
    monkeypatch.setattr(SCRIPT, "run", lambda study, _out, _runs: ran.append(study.name) or True)
    (tmp_path / "members.complete").touch()
    assert SCRIPT.main(["--only", "members", str(tmp_path)]) == 0
    assert ran == []


def test_an_unknown_study_or_an_ordinary_user_starts_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(SCRIPT, "run", lambda *_arguments: pytest.fail("nothing may start"))
    assert SCRIPT.main(["--only", "nope", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: no study is called nope: expected one of boston-2017, bus-2018")
    monkeypatch.setattr(SCRIPT.os, "geteuid", lambda: 1000)
    assert SCRIPT.main(["--only", "members", str(tmp_path / "out")]) == 1
    assert "expected to be root" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_studies_have_the_published_factors():
    boston = cells(read_experiment(EXAMPLES[0].parent / "boston-2017.yaml"), Path())
    assert {2 * float(cell.factors["delay"].removesuffix("ms")) for cell in boston} == {0, 20, 50, 100, 200}, "round trips, ms"
    central = Cloud.model_validate(next(cell.cloud for cell in boston if cell.factors["architecture"] == "centralised"))
    assert [site.kind for site in central.sites] == ["full"] + ["compute"] * 10
    boots = cells(read_experiment(EXAMPLES[0].parent / "ic2e-2017.yaml"), Path())
    assert {(cell.factors["sites"], cell.factors["delay"]) for cell in boots} == {(n, d) for n in (2, 4, 8) for d in ("0ms", "5ms", "25ms")}
    assert {(cell.parameters["servers"], cell.parameters["at"]) for cell in boots} == {(500, "each")}
    loss = cells(read_experiment(EXAMPLES[0].parent / "loss-sweep.yaml"), Path())
    assert {cell.factors["loss"] for cell in loss} == {"0%", "0.1%", "1%", "10%", "25%"}
    cuts = [
        cell for name in ("cut-from-peers", "cut-databases") for cell in cells(read_experiment(EXAMPLES[0].parent / f"{name}.yaml"), Path())
    ]
    assert {cell.factors["architecture"] for cell in cuts} == {"centralised", "cooperative", "regions"}
    assert {cell.database for cell in cuts} == {"sqlite", "mariadb", "postgresql", "redis"}
    assert {(step["kind"], step["lasts_s"]) for cell in cuts for step in cell.faults} == {("cut", 60.0)}
    messages = cells(read_experiment(EXAMPLES[0].parent / "bus-2018.yaml"), Path())
    assert {cell.factors["operation"] for cell in messages} == {"call", "cast", "fanout"}
    assert {cell.factors["sites"] for cell in cells(read_experiment(EXAMPLES[0].parent / "members.yaml"), Path())} == {10, 100, 1000}
    loss = cells(read_experiment(EXAMPLES[0].parent / "loss-sweep.yaml"), Path())
    assert {cell.factors["loss"] for cell in loss} == {"0%", "0.1%", "1%", "10%", "25%"}
    cut = cells(read_experiment(EXAMPLES[0].parent / "cut-from-peers.yaml"), Path())
    assert {(step["kind"], step["lasts_s"]) for cell in cut for step in cell.faults} == {("cut", 60.0)}
    assert all(cell.faults[0]["at_s"] + 60 < cell.parameters["seconds"] for cell in cut), "the load goes on after the cut"
    assert {cell.factors["architecture"] for cell in cut} == {"centralised", "cooperative", "regions"}


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(AtollError, match="no such file") as raised:
        read_experiment(tmp_path / "x.yaml")
    assert raised.value.kind.code == "experiment.not_found"
    assert raised.value.hint == "give the path of an experiment's YAML file"
