import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from documents import Site

from atoll.mesh.parts import Head, Part
from atoll.mesh.refusals import Refused
from atoll.mesh.store import Store


def part(author: str = "paris", base: int = 0, data: bytes = b"data") -> Part:
    return Part(author, base, data, Head(1, base + 1, 2, b"digest", b"signature"))


def test_parts_are_kept_in_order_by_author(tmp_path: Path) -> None:
    store = Store(tmp_path / "document.db")
    store.append(part())
    store.append(part("lyon"))
    store.append(part(base=1, data=b"more"))
    store.close()
    store = Store(tmp_path / "document.db")
    assert store.authors() == ["lyon", "paris"]
    assert list(store.parts("paris")) == [part(), part(base=1, data=b"more")]
    store.close()


def test_a_part_that_is_all_replaces_what_was_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "document.db")
    store.append(part())
    store.append(part("lyon"))
    store.append(part(data=b"all"))
    assert list(store.parts("paris")) == [part(data=b"all")]
    assert list(store.parts("lyon")) == [part("lyon")]
    store.close()


def test_a_site_waits_for_the_disk_with_what_it_writes_itself() -> None:
    paris, lyon = Site("paris"), Site("lyon")
    statements: list[str] = []
    paris.store._database.set_trace_callback(statements.append)
    paris.write("1", present=True)
    assert "PRAGMA synchronous = FULL" in statements[: statements.index("COMMIT")]
    statements.clear()
    paris.document.merge(lyon.write("2", present=True))
    assert "PRAGMA synchronous = FULL" not in statements


def test_store_reports_when_later_parts_outgrow_the_whole_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "document.db")
    store.append(part(data=b"x" * 400_000))
    store.append(part(base=1, data=b"x" * 300_000))
    assert not store.grown("paris")
    store.append(part(base=2, data=b"x" * 300_000))
    assert store.grown("paris")
    store.close()
    store = Store(tmp_path / "document.db")
    assert store.grown("paris")
    store.append(part(data=b"all"))
    assert not store.grown("paris")
    store.close()


@pytest.mark.parametrize(("store_is", "part_is", "synchronous"), [(True, True, 2), (True, False, 1), (False, True, 1)])
def test_own_parts_are_durable_unless_the_site_is_relaxed(tmp_path: Path, store_is: bool, part_is: bool, synchronous: int) -> None:
    store = Store(tmp_path / "document.db", durable=store_is)
    store.append(part(), durable=part_is)
    assert store._database.execute("PRAGMA synchronous").fetchone()[0] == synchronous
    store.close()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "document.db")
    store.append(part())
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Store(tmp_path / "missing" / "document.db")


@pytest.mark.parametrize("damage", ["garbage", "torn", "page"])
def test_a_damaged_file_is_put_aside_and_its_content_comes_back(damage: str) -> None:
    paris, lyon = Site("paris"), Site("lyon")
    for number in range(50):
        paris.write(str(number), present=True, text="x" * 500)
        lyon.document.merge(paris.updates[-1])
        paris.document.merge(lyon.write(f"lyon's {number}", present=True))
    paris.store.close()
    content = bytearray(paris.path.read_bytes())
    if damage == "garbage":
        content = bytearray(b"no database " * 1000)
    elif damage == "torn":
        del content[len(content) // 2 :]
    else:
        content[8192:12288] = os.urandom(4096)
    paris.path.write_bytes(content)
    paris.open()
    aside = [file.name for file in paris.path.parent.iterdir() if "damaged" in file.name]
    assert aside == ["document.db.damaged-1"]
    assert paris.view() == {}
    paris.catch_up(lyon)
    assert paris.view() == lyon.view()
    lyon.catch_up(paris)
    assert lyon.document.digest() == paris.document.digest()


def test_a_damaged_part_costs_that_author_only(caplog: pytest.LogCaptureFixture) -> None:
    paris, lyon, nice = Site("paris"), Site("lyon"), Site("nice")
    for site in (lyon, nice):
        paris.document.merge(site.write(site.name, present=True))
    paris.write("1", present=True)
    paris.store.close()
    database = sqlite3.connect(paris.path)
    database.execute("UPDATE part SET data = CAST(substr(data, 1, 20) || x'00' || substr(data, 22) AS BLOB) WHERE author = 'lyon'")
    database.commit()
    database.close()
    paris.open()
    assert "the stored stream of lyon is damaged" in caplog.text
    assert {key for _, key in paris.view()} == {"1", "nice"}
    paris.catch_up(lyon)
    paris.restart()
    assert {key for _, key in paris.view()} == {"1", "lyon", "nice"}


def test_a_part_that_is_not_bytes_is_damage(tmp_path: Path) -> None:
    store = Store(tmp_path / "document.db")
    database = sqlite3.connect(tmp_path / "document.db")
    database.execute("INSERT INTO part (author, base, data) VALUES ('paris', 0, 'text')")
    database.commit()
    database.close()
    with pytest.raises(Refused):
        list(store.parts("paris"))
    store.close()


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from documents import Site, key_of
site = Site("paris", Path(sys.argv[1]))
for number in range(100_000):
    site.write(str(number), present=True, text="x" * 2000)
    print(number, flush=True)
"""


def test_parts_of_a_killed_process_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "document.db"
    for delay_s in (0.05, 0.3):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(Path(__file__).parent)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        process.stdout.close()
        process.wait()
        copy = tmp_path / f"copy-{delay_s}"
        shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy-*"))
        site = Site("paris", copy / "document.db")
        assert {str(number) for number in acknowledged} <= {key for _, key in site.view()}
        site.write("after", present=True)
        site.store.close()
