"""`atoll cloudlet`: the whole way from files to a launch image, and each error in one line."""

import json
import random
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rich.console import Console

from atoll.cli.bar import Bar
from atoll.cloudlet import base as base_module

PAGE = 4096


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """Write a base's files, a guest's and keys into the working directory."""
    seeded = random.Random(1)
    disk, memory = seeded.randbytes(PAGE * 20), seeded.randbytes(PAGE * 10)
    (tmp_path / "base.raw").write_bytes(disk)
    (tmp_path / "base.mem").write_bytes(memory)
    (tmp_path / "app.raw").write_bytes(disk[:PAGE] + seeded.randbytes(PAGE) + disk[2 * PAGE :])
    (tmp_path / "app.mem").write_bytes(memory + disk[: PAGE * 2])
    for name, key in (("", ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)), ("other-", ed25519.Ed25519PrivateKey.generate())):
        (tmp_path / f"{name}key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}public.pem").write_bytes(public)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def base(atoll, files) -> str:
    """Make a base with memory, and return its digest."""
    ran = atoll(
        "cloudlet", "base", "base", "--disk", "base.raw", "--memory", "base.mem", "--cpu", "Haswell-v1", "--machine", "q35", "--json"
    )
    assert ran.code == 0
    return str(json.loads(ran.out)["digest"])


@pytest.fixture
def overlay(atoll, base) -> str:
    words = "--base base --disk app.raw --memory app.mem --key key.pem"
    ran = atoll("cloudlet", "overlay", "app.overlay", *words.split(), "--json")
    assert ran.code == 0
    made = json.loads(ran.out)
    assert (made["base"], made["result"]["cpu"], made["result"]["machine"]) == (base, "Haswell-v1", "q35")
    assert made["pages"] == {"zeros": 0, "content": 1, "changed": 0, "from_base": 2, "from_result": 0}
    assert made["bytes"] == (Path("app.overlay")).stat().st_size
    return str(made["result"]["digest"])


APPLY = ("cloudlet", "apply", "app.overlay", "app", "--base", "base", "--trust", "public.pem")


def test_the_whole_way(atoll, overlay):
    ran = atoll(*APPLY)
    assert (ran.code, ran.out) == (0, f"{overlay}  app\n")
    assert Path("app/disk").read_bytes() == Path("app.raw").read_bytes()
    assert Path("app/memory").read_bytes() == Path("app.mem").read_bytes()
    assert atoll("cloudlet", "verify", "app").out == f"{overlay}  app\n"


def test_verify(atoll, base, overlay):
    ran = atoll("cloudlet", "verify", "app.overlay", "--trust", "other-public.pem", "--trust", "public.pem", "--base", "base")
    assert ran.code == 0
    assert f"signed by a trusted key, 2 segments verified, for base {base[:16]}" in ran.out
    found = json.loads(atoll("cloudlet", "verify", "app.overlay", "--trust", "public.pem", "--json").out)
    assert (found["base"], found["segments"], found["result"]["digest"]) == (base, 2, overlay)
    assert json.loads(atoll("cloudlet", "verify", "base", "--json").out)["digest"] == base


def test_from_standard_input_into_a_cache(atoll, overlay, monkeypatch):
    words = ("cloudlet", "apply", "-", "--cache", "cache", "--base", "base", "--trust", "public.pem", "--json")
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(Path("app.overlay").read_bytes())))
    made = json.loads(atoll(*words).out)
    assert (made["path"], made["cached"], made["resumed_segments"]) == (f"cache/{overlay}", False, 0)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(Path("app.overlay").read_bytes()[:500])))
    again = json.loads(atoll(*words).out)
    assert (again["path"], again["cached"]) == (f"cache/{overlay}", True)
    assert Path(f"cache/{overlay}/disk").read_bytes() == Path("app.raw").read_bytes()


def test_a_cache_that_is_too_small_keeps_nothing(atoll, overlay):
    ran = atoll("cloudlet", "apply", "app.overlay", "--cache", "cache", "--limit", "0.00001", "--base", "base", "--trust", "public.pem")
    assert (ran.code, overlay in str(list(Path("cache").iterdir()))) == (1, False)
    assert "does not fit" in ran.err


def damaged() -> None:
    content = bytearray(Path("app.overlay").read_bytes())
    content[-1] ^= 1
    Path("app.overlay").write_bytes(content)


REFUSED = {
    "damaged": (damaged, APPLY, "segment 1 of the overlay is damaged"),
    "other key": (None, (*APPLY[:-1], "other-public.pem"), "none of the trusted keys signed this overlay"),
    "other base": (None, (*APPLY[:5], "other", *APPLY[6:]), "was made for the base"),
    "other CPU model": (None, (*APPLY, "--cpu", "EPYC"), "of the CPU model Haswell-v1, but this machine offers EPYC"),
    "no base": (None, (*APPLY[:5], "nowhere", *APPLY[6:]), "nowhere: this is not an image"),
    "no overlay": (None, (*APPLY[:2], "nothing", *APPLY[3:]), "nothing: no such file or directory"),
    "no key": (None, (*APPLY[:-1], "nothing"), "nothing: no such file or directory"),
    "no parent": (None, (*APPLY[:3], "no/app", *APPLY[4:]), "no such file or directory"),
}


@pytest.mark.parametrize(("before", "words", "said"), REFUSED.values(), ids=REFUSED)
def test_refusals(atoll, overlay, before, words, said):
    atoll("cloudlet", "base", "other", "--disk", "app.raw")
    if before:
        before()
    ran = atoll(*words)
    assert ran.code == 1
    assert said in ran.err.splitlines()[0]
    assert len(ran.err.splitlines()) <= 2
    assert not Path("app").exists()


def test_a_cut_file_goes_on(atoll, overlay):
    whole = Path("app.overlay").read_bytes()
    Path("app.overlay").write_bytes(whole[:-10])
    ran = atoll(*APPLY)
    assert ran.code == 1
    assert "in the middle of the overlay" in ran.err
    assert "run the same command again" in ran.err
    Path("app.overlay").write_bytes(whole)
    assert json.loads(atoll(*APPLY, "--json").out)["resumed_segments"] == 1
    assert Path("app/disk").read_bytes() == Path("app.raw").read_bytes()


USAGE = {
    "no file": ("base", "new"),
    "memory without a CPU model": ("base", "new", "--memory", "base.mem"),
    "a CPU model without memory": ("base", "new", "--disk", "base.raw", "--cpu", "EPYC"),
    "no trust": ("apply", "app.overlay", "new", "--base", "base"),
    "neither target nor cache": ("apply", "app.overlay", "--base", "base", "--trust", "public.pem"),
    "target and cache": ("apply", "app.overlay", "new", "--base", "base", "--trust", "public.pem", "--cache", "new"),
    "a CPU model of an overlay without memory": ("overlay", "new", "--base", "base", "--disk", "app.raw", "--key", "key.pem", "--cpu", "x"),
    **{
        f"limit {each}": ("apply", "app.overlay", "--cache", "new", "--base", "base", "--trust", "public.pem", "--limit", each)
        for each in ("nan", "inf", "1e308")
    },
    "level": ("overlay", "new", "--base", "base", "--disk", "app.raw", "--key", "key.pem", "--level", "20"),
    "jobs": ("overlay", "new", "--base", "base", "--disk", "app.raw", "--key", "key.pem", "--jobs", "0"),
}


@pytest.mark.parametrize("words", USAGE.values(), ids=USAGE)
def test_command_lines_that_are_not_valid(atoll, overlay, words):
    assert atoll("cloudlet", *words).code == 2
    assert not Path("new").exists()


def test_qcow2(atoll, files):
    Path("base.raw").write_bytes(b"QFI\xfb" + bytes(1000))
    ran = atoll("cloudlet", "base", "new", "--disk", "base.raw")
    assert (ran.code, "qemu-img convert -O raw" in ran.err) == (1, True)


def test_ctrl_c(atoll, base, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(base_module, "make_base", interrupt)
    ran = atoll("cloudlet", "base", "new", "--disk", "base.raw")
    assert (ran.code, ran.err.startswith("error: interrupted\n")) == (130, True)


@pytest.mark.parametrize("name", ["base", "overlay", "verify", "apply"])
def test_help_has_an_example(atoll, name):
    assert f"Example:\n  atoll cloudlet {name} " in atoll("cloudlet", name, "--help").out


def test_progress_appears_when_it_takes_long():
    now, console = [0.0], Console(file=TextIOWrapper(BytesIO()), force_terminal=False)
    with console.capture() as shown, Bar(console, lambda: now[0]) as bar:
        for now[0], done in ((0.5, 1), (1.5, 2), (2, 3), (12, 4)):
            bar("applying", done, 10)
    assert shown.get() == "applying: 20 %\napplying: 40 %\n"


def test_progress_on_a_terminal():
    console = Console(file=TextIOWrapper(BytesIO()), force_terminal=True, width=80)
    with console.capture() as shown, Bar(console, iter(range(100)).__next__) as bar:
        for done in range(1, 11):
            bar("applying", done, 10)
    assert "applying" in shown.get()
    assert "100%" in shown.get()


def test_closed_standard_input(atoll, base, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    ran = atoll("cloudlet", "verify", "-", "--trust", "public.pem")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: standard input is closed")


def test_overlay_with_memory_over_a_base_without(atoll, files):
    atoll("cloudlet", "base", "base", "--disk", "base.raw")
    words = ("cloudlet", "overlay", "app.overlay", "--base", "base", "--memory", "app.mem", "--key", "key.pem")
    ran = atoll(*words)
    assert (ran.code, "with --cpu" in ran.err, Path("app.overlay").exists()) == (1, True, False)
    assert atoll(*words, "--cpu", "EPYC").code == 0


@pytest.mark.parametrize("name", ["", ".", "..", "/"])
def test_no_hint_removes_an_entry_that_is_not_an_image(atoll, overlay, name):
    ran = atoll(*APPLY[:3], name, *APPLY[4:])
    assert (ran.code, "rm -r" in ran.err) == (1, False)


def test_small_overlay_has_its_size_in_kib(atoll, base):
    ran = atoll("cloudlet", "overlay", "app.overlay", "--base", "base", "--disk", "app.raw", "--key", "key.pem")
    assert " KiB in 1 segment, for base " in ran.out
    assert (
        "signed by a trusted key, 1 segment verified, for base" in atoll("cloudlet", "verify", "app.overlay", "--trust", "public.pem").out
    )


@pytest.fixture
def captured(files) -> Path:
    """Write a directory as `capture` does."""
    directory = files / "captured"
    directory.mkdir()
    (directory / "disk").write_bytes((files / "base.raw").read_bytes())
    (directory / "memory").write_bytes((files / "base.mem").read_bytes())
    (directory / "hardware").write_text('{"cpu": "EPYC", "machine": "pc-i440fx-10.0"}')
    return directory


def test_base_and_overlay_of_captured_guests(atoll, captured):
    made = json.loads(atoll("cloudlet", "base", "warm", "--capture", "captured", "--json").out)
    assert (made["cpu"], made["machine"], sorted(made["parts"])) == ("EPYC", "pc-i440fx-10.0", ["disk", "hardware", "memory"])
    (captured / "memory").write_bytes(Path("app.mem").read_bytes())
    words = "--base warm --capture captured --key key.pem --json"
    ran = atoll("cloudlet", "overlay", "warm.overlay", *words.split())
    assert json.loads(ran.out)["result"]["cpu"] == "EPYC"


@pytest.mark.usefixtures("captured")
@pytest.mark.parametrize("more", ["--disk base.raw", "--memory base.mem --cpu EPYC", "--machine pc"])
def test_capture_is_given_alone(atoll, more):
    ran = atoll("cloudlet", "base", "warm", "--capture", "captured", *more.split())
    assert (ran.code, "--capture names all files of a guest" in ran.err, Path("warm").exists()) == (2, True, False)


def test_capture_of_a_site(atoll, monkeypatch, tmp_path):
    from atoll.site import capture as module
    from atoll.site import sites

    asked = []

    def capture(settings, server, target, _report):
        asked.append((settings, server, target))
        return module.Capture("the-id", target, SimpleNamespace(cpu="EPYC", machine="pc-i440fx-10.0"))

    monkeypatch.setattr(module, "capture", capture)
    monkeypatch.setattr(sites, "site_settings", lambda _state, site: f"settings of {site}")
    ran = atoll("cloudlet", "capture", "paris", "web", str(tmp_path / "files"), "--json")
    assert json.loads(ran.out) == {"server": "the-id", "path": str(tmp_path / "files"), "cpu": "EPYC", "machine": "pc-i440fx-10.0"}
    assert asked == [("settings of paris", "web", tmp_path / "files")]
    assert "the-id, CPU model EPYC" in atoll("cloudlet", "capture", "paris", "web", "files").out
