import os
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.bench.crashes.hooks import BOARD, written
from atoll.bench.crashes.point import Board, Plan, Point, Watch, distinct, masked


class DeadError(Exception):
    pass


def die() -> None:
    raise DeadError


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path)
    made.open()
    return made


def watch(board: Board, process: str = "nova") -> Watch:
    return Watch(board, process, die)


def test_without_a_plan_nothing_is_recorded_and_nobody_dies(board, tmp_path):
    watch(board).reach("before commit UPDATE instances")
    assert list((tmp_path / "crashes").iterdir()) == []


def test_points_of_all_processes_are_recorded_in_order(board):
    board.begin(Plan("one"))
    nova, neutron = watch(board), watch(board, "neutron")
    nova.reach("a")
    neutron.reach("a")
    nova.reach("a")
    assert board.reached("one") == [Point("nova", "a", 1), Point("neutron", "a", 1), Point("nova", "a", 2)]


def test_each_round_starts_its_counts_at_zero(board):
    nova = watch(board)
    for name in ("one", "two"):
        board.begin(Plan(name))
        nova.reach("a")
    assert board.reached("two") == [Point("nova", "a", 1)]
    board.end()
    nova.reach("a")
    assert len(board.reached("two")) == 1


def test_the_process_dies_at_the_planned_point_and_its_successor_does_not(board):
    board.begin(Plan("one", (Point("nova", "a", 2),)))
    nova = watch(board)
    nova.reach("a")
    watch(board, "neutron").reach("a")
    with pytest.raises(DeadError):
        nova.reach("a")
    again = watch(board)
    again.reach("a")
    again.reach("a")
    assert board.deaths("one") == 1
    assert [point.life for point in board.reached("one")] == [0, 0, 0, 1, 1]


def test_a_second_death_comes_after_the_first(board):
    board.begin(Plan("one", (Point("nova", "b", 1), Point("nova", "a", 1))))
    nova = watch(board)
    nova.reach("a")
    with pytest.raises(DeadError):
        nova.reach("b")
    with pytest.raises(DeadError):
        watch(board).reach("a")
    assert board.deaths("one") == 2


def test_any_point_may_be_meant(board):
    board.begin(Plan("one", (Point("nova", "", 3),)))
    nova = watch(board)
    nova.reach("a")
    nova.reach("b")
    with pytest.raises(DeadError):
        nova.reach("c")


def test_points_are_the_same_each_time():
    uuid = "0c9e0a5e-6a3f-4ac4-9c6a-1d1f6a6e0001"
    assert masked(f"/v2.1/servers/{uuid}/action?x=1") == "/v2.1/servers/*/action"
    assert masked(f"/v3/projects/{uuid.replace('-', '')}/users/{uuid.replace('-', '') * 2}") == "/v3/projects/*/users/*"
    assert masked("/v2.0/ports") == "/v2.0/ports"
    assert distinct([Point("a", "x", 1), Point("a", "x", 2), Point("a", "x", 1)]) == [Point("a", "x", 1), Point("a", "x", 2)]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("INSERT INTO instances (a) VALUES (?)", "INSERT instances"),
        ('UPDATE "user" SET a=?', "UPDATE user"),
        ("DELETE FROM build_requests WHERE id = ?", "DELETE build_requests"),
        ("INSERT OR REPLACE INTO part VALUES (1)", "INSERT part"),
        ("SELECT * FROM instances FOR UPDATE", ""),
        ("PRAGMA user_version", ""),
    ],
)
def test_statements_that_write_are_known(statement, what):
    assert written(statement) == what


def test_the_command_that_joins_a_site_has_all_its_crash_points(tmp_path):
    """The hooks find every function that they watch; a process of its own has them, because they stay."""
    program = (
        "from atoll.bench.crashes.hooks import install_in_command; from atoll.site import up;"
        "install_in_command(); print(up.start_plan.__name__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {BOARD: str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "watched\n"), ran.stderr
