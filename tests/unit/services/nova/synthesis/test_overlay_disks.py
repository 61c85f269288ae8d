"""The way from two images to a disk: who may use what of the cache, what is fetched, and what is left."""

import threading
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from test_overlay_decisions import KEY, SECOND, base, overlay

from atoll.overlay_images import EMPTY, MEMORY
from atoll.services.nova.synthesis import disks, overlays, worker
from atoll.services.nova.synthesis.disks import Caller, Disks
from atoll.services.nova.synthesis.overlays import OverlayRefusal, file_name, read_bases, read_overlay
from atoll.services.nova.synthesis.worker import WrongBase

LIMIT = 1 << 30
MINE = Caller("mine", {})
CONDITIONS = {"cpu": "EPYC", "machine": "pc-i440fx-10.0", "mib": 512, "keys": None}


class Readable:
    """A caller's images: those that it can read now."""

    def __init__(self, *found: dict[str, Any]) -> None:
        self.found, self.fetched = list(found), []
        self.elsewhere: list[dict[str, Any]] = []
        self.asked: list[tuple[str, set[str]]] = []
        self.launch: bytes | None = None
        self.launches = 0
        self.check = lambda _path: None

    def with_property(self, name: str, value: str) -> list[Mapping[str, Any]]:
        return [each for each in self.found if each["properties"].get(name) == value]

    def bring_base(self, overlay: str, wrong: Collection[str]) -> None:
        self.asked.append((overlay, set(wrong)))
        if not self.elsewhere:
            raise OverlayRefusal("no site that can be reached has an image that you can use as the overlay's base")
        self.found.append(self.elsewhere.pop(0))

    def fetch_launch(self, overlay: str, keys: Sequence[str], path: Path, max_bytes: int) -> bool:
        assert (overlay, max_bytes) == ("o", LIMIT)
        self.launches += 1
        if self.launch is not None:
            path.write_bytes(self.launch)
        return self.launch is not None

    def fetch(self, image: str, path: Path) -> None:
        self.fetched.append(image)
        path.write_bytes(b"overlay")

    def fetch_raw(self, image: str, path: Path, max_bytes: int) -> None:
        assert max_bytes == LIMIT
        self.fetched.append(image)
        path.write_bytes(b"base")

    def check_raw(self, _image: str, path: Path) -> None:
        self.check(path)


class Worker:
    """A double of the process: a base is what its file says, and KEY has signed all overlays."""

    def __init__(self, directory: Path) -> None:
        self.cache = directory / "cloudlet" / "cache"
        self.tasks: list[Mapping[str, Any]] = []
        self.wrong: set[str] = set()
        self.forgets = 0
        self.memory = False

    def __call__(self, task: Mapping[str, Any]) -> str | None:
        self.tasks.append(task)
        if "digest" in task:
            if task["name"] in self.wrong:
                raise WrongBase("its content is another base")
            (self.cache / task["name"]).mkdir(parents=True)
            return None
        if "stream" in task:
            assert Path(task["overlay"]).exists()
            if Path(task["stream"]).read_bytes() != b"launch" or KEY not in task["keys"]:
                raise OverlayRefusal("the launch image of another site: it differs from the digest")
            Path(task["target"]).write_bytes(b"disk")
            return KEY
        names = dict(task["keys"])
        if KEY not in names:
            raise OverlayRefusal("the overlay: none of the trusted keys signed this overlay")
        if self.forgets:
            self.forgets -= 1
            return None
        launch = self.cache / names[KEY]
        if not launch.is_dir():
            if not task["overlay"] or not (self.cache / task["base"]).is_dir():
                return None
            launch.mkdir()
        Path(task["target"]).write_bytes(b"disk")
        if self.memory:
            assert CONDITIONS.items() <= task["resume"].items()
            Path(task["resume"]["memory"]).write_bytes(b"memory")
            Path(task["resume"]["hardware"]).write_bytes(b"hardware")
        return KEY


class Site:
    def __init__(self, directory: Path) -> None:
        self.directory, self.held = directory, directory / "held"
        self.held.mkdir()
        self.worker = Worker(directory)
        self.disks = Disks(directory / "cloudlet", LIMIT, self.held, lambda _name: nullcontext(), self.worker)

    def boot(self, images: Readable, image: dict[str, Any] | None = None, caller: Caller = MINE, max_bytes: int | None = None) -> str:
        """Make a disk as the driver does, and return its name."""
        with self.disks.disk(image or overlay(), caller, images, max_bytes, CONDITIONS) as disk:
            if disk.made is not None:
                assert not (self.held / disk.name).exists()
                disk.made.rename(self.held / disk.name)
        self.check_clean()
        return disk.name

    def refused(self, images: Readable, expected: str, *arguments: object, **more: object) -> None:
        with pytest.raises(OverlayRefusal, match=expected) as caught:
            self.boot(images, *arguments, **more)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 190, "Nova keeps 255 characters of a fault"
        self.check_clean()

    def check_clean(self) -> None:
        work = self.directory / "cloudlet" / "work"
        assert not work.is_dir() or list(work.iterdir()) == []


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


def test_first_server_fetches_both_and_the_next_ones_nothing(site):
    images = Readable(base())
    name = site.boot(images)
    assert images.fetched == ["o", "i"]
    assert (site.held / name).read_bytes() == b"disk"
    assert site.boot(images) == name
    (site.held / name).unlink()
    assert site.boot(images) == name, "the launch image is still in the cache"
    assert images.fetched == ["o", "i"]
    assert site.worker.tasks[-1]["overlay"] == ""


def test_base_that_the_caller_cannot_read_now_is_not_used_from_the_cache(site):
    site.boot(Readable(base()))
    site.refused(Readable(), "no site that can be reached has an image that you can use as the overlay's base")


def test_base_of_another_site_is_brought_once(site):
    images = Readable()
    images.elsewhere = [base()]
    name = site.boot(images)
    assert site.boot(images) == name
    assert (images.asked, images.fetched) == ([("o", set())], ["o", "i"])


def test_launch_image_of_another_site_is_used_once_and_the_base_from_then_on(site):
    images = Readable()
    images.launch, images.elsewhere = b"launch", [base()]
    name = site.boot(images)
    assert (site.held / name).read_bytes() == b"disk"
    assert (images.asked, images.fetched, images.launches) == ([], ["o"], 1)
    second = site.boot(images)
    assert second != name
    assert (images.asked, images.launches) == ([("o", set())], 1)
    assert site.boot(images) == second


def test_disk_that_another_user_fetched_gives_no_right_to_it(site):
    """The name follows from the overlay alone, so it must not be used for a caller to whom no site has sent the disk."""
    images = Readable()
    images.launch = b"launch"
    site.boot(images)
    site.refused(Readable(), "no site that can be reached has an image")
    held = list(site.held.iterdir())
    stranger = Readable()
    stranger.launch = b"other"
    site.refused(stranger, "no site that can be reached has an image")
    assert list(site.held.iterdir()) == held


@pytest.mark.parametrize("key", [KEY, SECOND])
def test_wrong_launch_image_of_another_site_is_replaced_by_the_base(site, key):
    images = Readable()
    images.launch, images.elsewhere = b"wrong" if key == KEY else b"launch", [base()]
    if key == SECOND:
        site.refused(images, "none of the trusted keys signed", overlay(**{overlays.KEY: SECOND}))
        return
    assert site.boot(images)
    assert (images.asked, images.launches) == ([("o", set())], 1)


def test_launch_image_of_another_site_in_another_format_is_not_used(site):
    images = Readable()
    images.launch = b"launch"

    def check(_path: Path) -> None:
        raise OverlayRefusal("the overlay's disk begins like an image of another format")

    images.check = check
    site.refused(images, "no site that can be reached has an image")
    assert list(site.held.iterdir()) == []


def test_launch_image_of_another_site_is_not_asked_for_if_the_base_is_here(site):
    images = Readable(base())
    images.launch = b"launch"
    site.boot(images)
    assert (images.launches, images.fetched) == (0, ["o", "i"])


def test_image_that_was_brought_in_vain_is_refused(site):
    """The gateway brings an image that another site calls the base, and the caller does not see it."""
    images = Readable()
    images.elsewhere = [base(**{overlays.DIGEST: "e" * 64})]
    site.refused(images, "no image that you can use is the overlay's base dddddddddddddddd: `atoll cloudlet upload` it")


def test_wrong_images_of_this_site_do_not_stand_in_the_way_of_the_base_of_another(site):
    claim, second = base("claim", hashed="c" * 128), base("second", hashed="e" * 128)
    site.worker.wrong = {each.name for each in read_bases([claim, second], read_overlay(overlay()), "mine")}
    images = Readable(claim)
    images.elsewhere = [second, base()]
    site.refused(images, "image second: its content is another base")
    assert site.boot(images)
    assert images.asked == [("o", {"claim"}), ("o", {"claim", "second"})]


def test_reason_of_a_wrong_image_is_told_if_no_site_has_a_right_one(site):
    claim = base("claim", hashed="c" * 128)
    site.worker.wrong = {each.name for each in read_bases([claim], read_overlay(overlay()), "mine")}
    site.refused(Readable(claim), "image claim: its content is another base")


def test_base_that_is_only_claimed_leads_to_no_image_of_the_cache(site):
    """A stranger uploads anything with the digest of a private base as its property."""
    site.boot(Readable(base()))
    claim = base("claim", "stranger", "c" * 128)
    site.worker.wrong.add(read_bases([claim], read_overlay(overlay()), "stranger")[0].name)
    images, caller = Readable(claim), Caller("stranger", {overlays.TRUST: KEY})
    site.refused(images, "image claim: its content is another base", overlay("stranger"), caller=caller)
    assert images.fetched == ["o", "claim"], "the claim's own data must be read"


def test_next_image_is_tried_if_one_only_claims_to_be_the_base(site):
    claim = base("a-claim", hashed="c" * 128)
    site.worker.wrong.add(read_bases([claim], read_overlay(overlay()), "mine")[0].name)
    images = Readable(claim, base("real"))
    site.boot(images)
    assert images.fetched == ["o", "a-claim", "real"]


def test_no_more_than_some_images_are_tried(site):
    claims = [base(f"claim{number}", hashed=f"{number:x}" * 128) for number in range(10)]
    site.worker.wrong = {each.name for each in read_bases(claims, read_overlay(overlay()), "mine")}
    images = Readable(*claims)
    site.refused(images, "image claim3: its content")
    assert len(set(images.fetched) - {"o"}) == disks.MOST_BASES


def test_disk_of_another_key_is_not_used(site):
    site.boot(Readable(base()))
    site.refused(Readable(base()), "none of the trusted keys signed", overlay(**{overlays.KEY: SECOND}))


def test_copy_of_the_base_with_the_same_data_serves(site):
    name = site.boot(Readable(base()))
    images = Readable(base("copy", "other"))
    assert site.boot(images) == name
    assert images.fetched == []


def test_launch_image_that_leaves_the_cache_meanwhile_is_made_again(site):
    images = Readable(base())
    name = site.boot(images)
    (site.held / name).unlink()
    site.worker.forgets = 1
    site.boot(images)
    assert images.fetched == ["o", "i", "o"]
    (site.held / name).unlink()
    site.worker.forgets = 2
    site.refused(images, "the site's cache of bases is too small")


@pytest.mark.parametrize("what", ["overlay", "base"])
def test_data_larger_than_the_cache_are_not_fetched(site, what):
    large = {"size": LIMIT + 1}
    images = Readable(base() | (large if what == "base" else {}))
    site.refused(images, f"the {what} has 1024 MiB: expected at most the 1024", overlay() | (large if what == "overlay" else {}))
    assert what[0] not in images.fetched


def test_full_file_system(site, monkeypatch):
    usage = disks.shutil.disk_usage
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda path: usage(path)._replace(free=10))
    images = Readable(base())
    site.refused(images, "no space left for the overlay: 0 MiB are free, expected 95")
    assert images.fetched == []


def test_disk_of_another_format_is_refused(site):
    images = Readable(base())

    def refuse(path: Path) -> None:
        raise OverlayRefusal(f"{path.name} is not a raw disk")

    images.check = refuse
    site.refused(images, "disk is not a raw disk")
    assert list(site.held.iterdir()) == []


def test_size_of_the_disk_is_bounded_by_the_flavor_and_by_the_cache(site):
    site.boot(Readable(base()), max_bytes=1000)
    assert site.worker.tasks[-1]["max_bytes"] == 1000
    for path in site.held.iterdir():
        path.unlink()
    site.boot(Readable(base()), max_bytes=LIMIT * 9)
    assert site.worker.tasks[-1]["max_bytes"] == LIMIT


def test_files_of_an_interrupted_process_are_deleted(site):
    kept = site.worker.cache / ("1" * 64)
    for path in (
        site.directory / "cloudlet" / "work" / "old",
        *(site.worker.cache / f".{'1' * 64}.{kind}" for kind in ("new", "partial")),
        kept,
    ):
        path.mkdir(parents=True)
        (path / "disk").write_bytes(b"x")
    site.disks.clean()
    assert list((site.directory / "cloudlet").iterdir()) == [site.worker.cache]
    assert list(site.worker.cache.iterdir()) == [kept]


def test_servers_at_the_same_time_make_one_disk(tmp_path):
    site = Site(tmp_path)
    locks = defaultdict[str, threading.Lock](threading.Lock)
    site.disks = Disks(tmp_path / "cloudlet", LIMIT, site.held, locks.__getitem__, site.worker)
    images = Readable(base())
    threads = [threading.Thread(target=lambda: site.disks and boot(site, images)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images.fetched == ["o", "i"]
    assert len(list(site.held.iterdir())) == 1


def test_few_processes_work_at_the_same_time(tmp_path):
    """Each may take gigabytes of memory, and one tenant starts many servers at once."""
    site, now, most = Site(tmp_path), [], []
    entered = threading.Barrier(disks.MOST_WORKERS + 1)

    def slow(task: Mapping[str, Any]) -> str | None:
        now.append(task)
        most.append(len(now))
        with suppress(threading.BrokenBarrierError):
            entered.wait(0.2)  # broken if fewer are let in
        found = site.worker(task)
        now.remove(task)
        return found

    site.disks = Disks(tmp_path / "cloudlet", LIMIT, site.held, lambda _name: nullcontext(), slow)
    overlays_ = [overlay() | {"os_hash_value": f"{number:x}" * 128} for number in range(1, 6)]
    bases = [base(hashed=f"{number:x}" * 128) for number in range(1, 6)]
    threads = [
        threading.Thread(target=lambda pair: boot(site, Readable(pair[1]), pair[0]), args=(pair,))
        for pair in zip(overlays_, bases, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(site.held.iterdir())) == 5
    assert max(most) <= disks.MOST_WORKERS


def test_image_of_a_stranger_that_claims_to_be_the_base_holds_up_nobody_else(tmp_path):
    """The stranger has the same overlay, for instance a public one, and its claim is large and slow to check."""
    site = Site(tmp_path)
    locks = defaultdict[str, threading.Lock](threading.Lock)
    site.disks = Disks(tmp_path / "cloudlet", LIMIT, site.held, locks.__getitem__, site.worker)
    claimed, checked = Readable(base("claim", "stranger", "c" * 128)), threading.Event()
    claimed.fetch_raw = lambda _image, path, _most: (checked.wait(10), path.write_bytes(b"base"))
    stranger = threading.Thread(target=boot, args=(site, claimed))
    stranger.start()
    mine = threading.Thread(target=boot, args=(site, Readable(base())))
    mine.start()
    mine.join(5)
    waiting = mine.is_alive()
    checked.set()
    for thread in (stranger, mine):
        thread.join()
    assert not waiting


def resumed(site: Site, images: Readable, image: dict[str, Any] | None = None) -> tuple[str, bool]:
    """Make a disk and memory as the driver does; return the disk's name, and whether its file was made."""
    with site.disks.disk(image or overlay(), MINE, images, None, CONDITIONS) as disk:
        assert disk.memory is not None
        assert disk.hardware is not None
        assert (disk.memory.read_bytes(), disk.hardware.read_bytes()) == (b"memory", b"hardware")
        if disk.made is not None:
            disk.made.rename(site.held / disk.name)
    site.check_clean()
    return disk.name, disk.made is not None


def test_each_server_gets_memory_and_the_disk_is_made_once(site):
    site.worker.memory = True
    images = Readable(base())
    name, made = resumed(site, images)
    assert made
    assert resumed(site, images) == (name, False)
    assert images.fetched == ["o", "i"]
    assert name not in {file_name(each) for each in dict(site.worker.tasks[-1]["keys"]).values()}


def test_disk_of_memory_is_no_disk_for_an_overlay_without_memory(site):
    """A server whose overlay has memory must not boot from the disk alone, so the disk has another name."""
    site.worker.memory = True
    name, _ = resumed(site, Readable(base()))
    site.worker.memory = False
    assert site.boot(Readable(base())) != name


def test_packed_base_is_fetched_as_it_is(site):
    packed = base(**{overlays.BASE: EMPTY, overlays.KEY: f"{KEY},{SECOND}"})
    images = Readable(packed)
    images.fetch_raw = lambda *_: pytest.fail("a packed base is no disk")
    site.boot(images)
    (task,) = [each for each in site.worker.tasks if "digest" in each]
    assert (task["keys"], task["digest"]) == ([KEY, SECOND], overlays.read_overlay(overlay()).base)


def test_packed_base_starts_a_server_itself_and_needs_no_other_image(site):
    images = Readable()
    site.boot(images, overlay(**{overlays.BASE: EMPTY}))
    assert (images.fetched, images.asked) == (["o"], [])
    (task,) = [each for each in site.worker.tasks if "digest" in each]
    assert (task["disk"], task["digest"]) == ("", EMPTY)


def test_launch_image_with_memory_is_not_fetched_from_another_site(site):
    images = Readable()
    images.elsewhere = [base()]
    images.launch = b"launch"
    site.boot(images, overlay(**{MEMORY: "528"}))
    assert images.launches == 0
    assert images.asked == [("o", set())]


def boot(site: Site, images: Readable, image: dict[str, Any] | None = None) -> None:
    with site.disks.disk(image or overlay(), MINE, images, None, CONDITIONS) as disk:
        if disk.made is not None:
            disk.made.rename(site.held / disk.name)


def run_with(monkeypatch, code: str) -> None:
    command = worker.subprocess.run
    monkeypatch.setattr(worker.subprocess, "run", lambda _command, **more: command([worker.sys.executable, "-c", code], **more))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "more processor time than a server may take"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with code -9"),
        ("raise ValueError('bad\\nline')", "ended with code 1 line"),
        ("""print('{"error": {"code": "cloudlet.invalid", "message": "it is damaged"}}')""", "it is damaged"),
    ],
)
def test_process_that_fails(monkeypatch, code, expected):
    run_with(monkeypatch, code)
    with pytest.raises(OverlayRefusal, match=expected) as caught:
        worker.work({"cache": "/nowhere"})
    assert "\n" not in str(caught.value)


def test_message_of_the_process_names_no_place_of_the_site(monkeypatch):
    task = {
        "cache": "/site/data/cloudlet/cache",
        "overlay": "/site/data/cloudlet/work/1/overlay",
        "target": "/site/data/cloudlet/work/1/disk",
    }
    run_with(monkeypatch, f"""print('{{"error": {{"code": "state.space", "message": "{task["cache"]}: full"}}}}')""")
    with pytest.raises(OverlayRefusal) as caught:
        worker.work(task)
    assert str(caught.value) == "the cache: full"
    monkeypatch.undo()
    run_with(monkeypatch, f"raise OSError('{task['overlay']}')")
    with pytest.raises(OverlayRefusal) as caught:
        worker.work(task)
    assert str(caught.value) == "the process that applies overlays ended with code 1 OSError: the overlay"


def test_process_gets_no_secret_of_the_environment_and_no_module_of_the_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("ATOLL_SECRET", "x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "atoll").mkdir()
    (tmp_path / "atoll" / "__init__.py").write_text("raise SystemExit('a stranger in the directory')\n")
    started = []
    command = worker.subprocess.run
    monkeypatch.setattr(worker.subprocess, "run", lambda *arguments, **more: started.append(more["env"]) or command(*arguments, **more))
    with pytest.raises(OverlayRefusal, match="ended with code 1 KeyError: 'cache'"):
        worker.work({})
    assert "ATOLL_SECRET" not in started[0]


def test_process_that_finds_another_base(monkeypatch):
    run_with(monkeypatch, """print('{"error": {"code": "cloudlet.base", "message": "another"}}')""")
    with pytest.raises(WrongBase, match="another"):
        worker.work({"digest": "d"})
    with pytest.raises(OverlayRefusal, match="another") as caught:
        worker.work({})
    assert not isinstance(caught.value, WrongBase), "an overlay of another base is no reason to try another image"


def test_process_that_succeeds(monkeypatch):
    run_with(monkeypatch, "import json, sys; print(json.dumps({'key': json.load(sys.stdin)['x']}))")
    assert worker.work({"x": "y"}) == "y"
