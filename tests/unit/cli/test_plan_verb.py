"""`atoll plan` on the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from atoll.cli.group import cli
from atoll.cli.main import run
from atoll.cloud import read_cloud

EXAMPLE = Path(__file__).parents[3] / "examples" / "plans" / "shops.yaml"


def test_the_example_is_planned_and_written_as_a_cloud(tmp_path):
    done = CliRunner().invoke(cli, ["plan", str(EXAMPLE), "-o", str(tmp_path / "cloud.yaml")])
    assert done.exception is None, done.output
    first, second, *_rest = done.stdout.splitlines()
    assert first.startswith("price 0.1327 an hour (optimal, after ")
    assert second == "2 instances each of keystone, placement, glance, neutron, nova with a replica of identity; 6 of nova-compute"
    assert "image set --property atoll_keep=paris,lyon debian" in done.stdout
    assert "`survive` of paris, lyon, shop-1 and 4 more binds: it forbids to make lyon a compute site" in done.stdout
    assert "make shop-1 a full site" in done.stdout
    cloud = read_cloud(tmp_path / "cloud.yaml")
    assert {site.name: site.control for site in cloud.sites if site.kind == "compute"} == {
        "shop-1": "paris",
        "shop-2": "paris",
        "shop-3": "lyon",
        "shop-4": "lyon",
    }


def test_json_is_all_of_standard_output():
    done = CliRunner().invoke(cli, ["plan", str(EXAMPLE), "--json"])
    told = json.loads(done.stdout)
    assert told["optimal"]
    assert told["gap"] == 0
    assert {"price", "instances", "images", "sites", "bounds", "binding", "moves"} <= told.keys()


def test_contradicting_bounds_are_one_line(tmp_path, capsys):
    file = tmp_path / "plan.yaml"
    text = EXAMPLE.read_text(encoding="utf-8").replace("within: 200ms", "within: 70ms").replace("survive: 1, ", "")
    file.write_text(text, encoding="utf-8")
    assert run(["plan", str(file)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("error: no plan is possible: `within` of list (at shop-")
    assert "`memory` (at shop-1: 540MB would suffice instead of 300MB" in told[0]
    assert told[0].endswith("contradict")
    assert told[1] == "hint: change one of these bounds in the file"


@pytest.mark.parametrize("word", ["--seconds=0", "--gap=-1", "--seconds=nan", "--gap=nan", "--seconds=inf"], ids=str)
def test_a_wrong_option_is_a_wrong_command_line(word, capsys):
    assert run(["plan", str(EXAMPLE), word]) == 2
    assert "error: " in capsys.readouterr().err


def test_a_trace_that_is_missing_is_named(tmp_path, capsys):
    file = tmp_path / "plan.yaml"
    text = EXAMPLE.read_text(encoding="utf-8").replace("{time: 60ms, round_trips: 3, bytes: 40kB,", "{trace: list.json,")
    file.write_text(text, encoding="utf-8")
    assert run(["plan", str(file)]) == 1
    line = 1 + next(number for number, each in enumerate(text.splitlines()) if "list.json" in each)
    expected = f"{tmp_path}/list.json: no such file: expected a file of `atoll trace export`, relative to the plan's file"
    told = f"error: {file}:{line}: operations.list.trace: {expected}\nhint: correct the file and run the command again\n"
    assert capsys.readouterr().err == told


def test_a_trace_that_is_none_is_told_with_its_operation(tmp_path, capsys):
    file = tmp_path / "plan.yaml"
    text = EXAMPLE.read_text(encoding="utf-8").replace("{time: 60ms, round_trips: 3, bytes: 40kB,", "{trace: list.json,")
    file.write_text(text, encoding="utf-8")
    (tmp_path / "list.json").write_text("{}", encoding="utf-8")
    assert run(["plan", str(file)]) == 1
    assert f"error: operations.list.trace: {tmp_path}/list.json: expected OTLP JSON" in capsys.readouterr().err


def test_a_name_of_an_image_is_one_word_of_its_command(tmp_path, capsys):
    file = tmp_path / "plan.yaml"
    file.write_text(EXAMPLE.read_text(encoding="utf-8").replace("debian", '"a; b"'), encoding="utf-8")
    assert run(["plan", str(file)]) == 0
    assert "atoll_keep=paris,lyon 'a; b'\n" in capsys.readouterr().out


def test_the_plan_itself_is_never_replaced(tmp_path, capsys):
    file, link = tmp_path / "plan.yaml", tmp_path / "link.yaml"
    file.write_bytes(EXAMPLE.read_bytes())
    link.symlink_to(file)
    for output in (file, link):
        assert run(["plan", str(file), "--output", str(output), "--force"]) == 1
        assert f"error: {output} is the plan itself" in capsys.readouterr().err
    assert file.read_bytes() == EXAMPLE.read_bytes()


def test_an_existing_file_is_replaced_only_by_force(tmp_path, capsys):
    output, link = tmp_path / "cloud.yaml", tmp_path / "link.yaml"
    output.write_text("mine", encoding="utf-8")
    link.symlink_to(output)
    assert run(["plan", str(EXAMPLE), "-o", str(output)]) == 1
    assert capsys.readouterr().err == f"error: {output} exists already: expected a new file\nhint: remove it, or replace it: --force\n"
    assert output.read_text(encoding="utf-8") == "mine"
    assert run(["plan", str(EXAMPLE), "-o", str(link), "--force"]) == 0
    assert read_cloud(output).sites
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cloud.yaml", "link.yaml"]


def test_a_device_as_output_stays_one(capsys):
    assert run(["plan", str(EXAMPLE), "-o", "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()
