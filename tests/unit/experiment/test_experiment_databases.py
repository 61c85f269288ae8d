"""Databases of an experiment: swept, recorded everywhere, compared only if they flush alike, and refused where they can't run."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import TEXT as RUN_TEXT
from made_runs import make_run
from refusals import refusal

from atoll.cloud import Cloud
from atoll.cloud.databases import Database
from atoll.experiment.compare import compare
from atoll.experiment.databases import engines_of, name_of
from atoll.experiment.document import parse_experiment
from atoll.experiment.export import export
from atoll.experiment.report import render
from atoll.experiment.summary import groups
from atoll.experiment.sweep import Cell, cells

TEXT = """\
name: small
repetitions: 2
architectures:
- {kind: cooperative, sites: 2}
- {kind: centralised, sites: 2}
databases: [sqlite, {start: mariadb}]
workloads: {list: {times: 3}}
"""
DATABASES = "[sqlite, {start: mariadb}]"
SOCKET = "redis://localhost?socket=/run/redis.sock"
ENGINES = ["sqlite", "{start: redis}", "{start: mariadb}", "{start: postgresql}", f"'{SOCKET}'"]
RELAXED = "sites: [{name: site-1, durability: relaxed}]"


def complaint(text, directory=None):
    return refusal("experiment.invalid", parse_experiment, text, "x.yaml", directory)


@pytest.mark.parametrize(
    ("databases", "expected"),
    [
        (
            "[]",
            "databases: expected `sqlite`, the URL of a server, or a mapping such as {start: mariadb}, or a list of them, got an empty",
        ),
        ("oracle", "databases[0]: expected `sqlite`, a mapping such as {start: redis}, or a URL that begins with one of redis"),
        ("{start: oracle}", "databases[0].start: expected `redis`, `postgresql` or `mariadb`, got the text 'oracle'"),
        ("[sqlite, {start: redis, port: 1}]", "databases[1]: unknown key `port`"),
        ("[{start: redis}, {start: redis}]", "databases: redis is in the list twice: expected each value once"),
        ("redis://me:secret@localhost", "databases[0]: expected a URL without a password"),
        (
            "[sqlite, 'redis://10.0.0.1:6379']",
            "databases[1]: cooperative with sites: 2 can't use the database redis at 10.0.0.1:6379: in a topology, a site's network",
        ),
    ],
    ids=lambda text: text[:40],
)
def test_a_wrong_database_is_refused_with_its_line(databases, expected):
    message = complaint(TEXT.replace(DATABASES, databases))
    assert message.startswith(f"x.yaml:6: {expected}"), message
    assert "secret" not in message


def test_standard_is_on_mariadb_alone():
    text = TEXT.replace("kind: centralised", "kind: standard")
    assert complaint(text).startswith(
        "x.yaml:6: databases[0]: standard with sites: 2 always uses MariaDB, not sqlite: expected {start: mariadb}"
    )
    made = cells(parse_experiment(text.replace(DATABASES, "{start: mariadb}"), "x"), Path())
    assert {cell.factors["database"] for cell in made} == {"mariadb"}


SHARED = TEXT.replace("- {kind: centralised, sites: 2}\n", "").replace(DATABASES, "[{start: redis}, {of: site-1}]")


def test_full_sites_can_share_the_databases_of_one():
    made = {cell.factors["database"]: cell for cell in cells(parse_experiment(SHARED, "x"), Path())}
    assert {name: cell.database for name, cell in made.items()} == {"redis": "redis", "redis of site-1": "redis of site-1"}
    cloud = Cloud.model_validate(made["redis of site-1"].cloud)
    assert [site.database for site in cloud.sites] == [Database(start="redis"), Database(of="site-1")]
    assert [site.name for site in cloud.sharing("site-2")] == ["site-1", "site-2"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sites: 2", "sites: [1, 2]", "cooperative with sites: 1 can't use the database redis of site-1: only one site is full"),
        ("cooperative", "centralised", "centralised with sites: 2 can't use the database redis of site-1: only one site is full"),
        ("cooperative", "regions", "regions with sites: 2, ask: parallel can't use the database redis of site-1: regions do not cooperate"),
        ("of: site-1", "of: site-3", "cooperative with sites: 2 can't use the database redis of site-3: "),
    ],
    ids=["one site", "one full site", "regions", "no such site"],
)
def test_a_database_that_nothing_can_share_is_refused(old, new, expected):
    assert complaint(SHARED.replace(old, new)).startswith(f"x.yaml:5: databases[1]: {expected}")


def test_the_cloud_of_a_file_has_databases_once(tmp_path):
    text = TEXT.replace("{kind: centralised, sites: 2}", "{kind: file, file: own.yaml}")
    (tmp_path / "own.yaml").write_text("sites: [{name: site-1, database: {start: redis}}]", encoding="utf-8")
    assert complaint(text, tmp_path).startswith("x.yaml:6: databases: own names databases itself (redis): expected none in its file, or")
    (made, *_others) = [
        cell
        for cell in cells(parse_experiment(text.replace("databases", "# databases"), "x", tmp_path), tmp_path)
        if cell.factors["architecture"] == "own"
    ]
    assert made.database == "redis"


def test_compared_databases_flush_alike(tmp_path):
    text = TEXT.replace("{kind: centralised, sites: 2}", "{kind: file, file: own.yaml}")
    (tmp_path / "own.yaml").write_text(RELAXED, encoding="utf-8")
    assert complaint(text, tmp_path) == (
        "x.yaml:6: databases: compared databases must flush commits alike: expected the same `durability` at all sites, "
        "got `full` at site-1 of cooperative with sites: 2, `relaxed` at site-1 of own"
    )
    assert parse_experiment(text.replace(DATABASES, "sqlite"), "x", tmp_path), "one database is compared with no other"


@given(databases=st.lists(st.sampled_from(ENGINES), min_size=1, unique=True), sites=st.integers(1, 4))
def test_every_database_is_combined_with_every_cloud(databases, sites):
    text = TEXT.replace(DATABASES, f"[{', '.join(databases)}]").replace("cooperative, sites: 2", f"cooperative, sites: {sites}")
    experiment = parse_experiment(text, "x")
    made = cells(experiment, Path())
    assert len(made) == experiment.count == 2 * 2 * len(databases)
    assert len({cell.factors["database"] for cell in made}) == len(databases)
    for cell in made:
        cloud = Cloud.model_validate(cell.cloud)
        assert {name_of(site.database) for site in cloud.full_sites} == {cell.factors["database"]}
        assert all(site.database == Database() for site in cloud.sites if site.kind == "compute")
        assert cell.database == cell.factors["database"]
        assert Cell.from_json(cell.to_json()).database == cell.database


def test_without_the_key_no_database_is_a_factor():
    made = cells(parse_experiment(TEXT.replace(f"databases: {DATABASES}\n", ""), "x"), Path())
    assert {(cell.database, "database" in cell.factors) for cell in made} == {("sqlite", False)}


def test_mixed_databases_are_all_named():
    document = {"sites": [{"name": "a"}, {"name": "b", "database": SOCKET}, {"name": "c", "kind": "compute", "control": "a"}]}
    assert engines_of(document) == "sqlite, redis at /run/redis.sock"


def test_standard_is_a_control_site_with_compute_sites():
    text = TEXT.replace("kind: centralised", "kind: standard, traffic: stock").replace(f"databases: {DATABASES}\n", "")
    made = next(cell for cell in cells(parse_experiment(text, "x"), Path()) if cell.factors["architecture"] == "standard")
    control, compute = Cloud.model_validate(made.cloud).sites
    assert (control.kind, control.bus, control.database.engine, control.traffic) == ("full", "rabbit", "mariadb", "stock")
    assert control.rabbit.url == f"rabbit://openstack@{control.host}:5672/"
    assert (compute.kind, compute.control) == ("compute", control.name)
    assert (made.rabbitmq, made.database) == (control.name, "mariadb")
    assert {cell.rabbitmq for cell in cells(parse_experiment(TEXT, "x"), Path())} == {""}


COMPARED = RUN_TEXT.replace("links:", "databases: [sqlite, {start: mariadb}]\nlinks:").replace("[0ms, 25ms, 50ms, 100ms]", "25ms")
FLUSHES = {"sqlite": "a flush for each group of commits", "mariadb": "innodb_flush_log_at_trx_commit=1"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs"), text=COMPARED, flushes=FLUSHES)


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_sample_has_its_database(run):
    for cell in run.cells:
        assert {sample.database for sample in run.samples(cell)} == {cell.factors["database"]}


def test_the_export_has_database_and_flush(run, tmp_path):
    export(run, tmp_path / "data")
    for name in ("operations.csv", "cells.csv"):
        found = {(row["factor_database"], row["database"], row["flush"]) for row in rows(tmp_path / "data" / name)}
        assert found == {(database, database, flush) for database, flush in FLUSHES.items()}
    assert {row["database"] for row in rows(tmp_path / "data" / "samples.csv")} == set(FLUSHES)
    card = (tmp_path / "data" / "README.md").read_text(encoding="utf-8")
    assert all(f"- {database}: {flush}" in card for database, flush in FLUSHES.items())
    (notebook,) = (tmp_path / "data").glob("*.ipynb")
    assert "flush unknown" in notebook.read_text(encoding="utf-8")


def test_the_page_has_columns_and_warns_of_databases_that_flush_otherwise(run, tmp_path):
    page = render(run)
    assert "<th>Database</th><th>Flush</th>" in page
    assert f"<td>mariadb</td><td>{FLUSHES['mariadb']}</td>" in page
    assert "their writes cannot be compared" not in page
    lax = {**FLUSHES, "mariadb": "innodb_flush_log_at_trx_commit=2"}
    assert "their writes cannot be compared" in render(make_run(tmp_path, text=COMPARED, flushes=lax, lax={"mariadb"}))


def test_a_comparison_tells_of_other_flushes(run, tmp_path):
    lax = {**FLUSHES, "mariadb": "innodb_flush_log_at_trx_commit=2"}
    other = make_run(tmp_path, text=COMPARED, flushes=lax, lax={"mariadb"})
    found = compare(groups(run), groups(other))
    assert {(each.databases, each.uneven) for each in found} == {(("sqlite", "sqlite"), False), (("mariadb", "mariadb"), True)}
    told = [each.to_json()["words"] for each in found if each.uneven]
    assert all(
        "commits were flushed by innodb_flush_log_at_trx_commit=1, then by innodb_flush_log_at_trx_commit=2" in text for text in told
    )
    assert not any(each.uneven for each in compare(groups(run), groups(make_run(tmp_path, text=COMPARED)))), "older runs do not tell"
