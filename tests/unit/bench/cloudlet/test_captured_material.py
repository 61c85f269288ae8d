"""Bases and overlays with the memory of a captured guest, and when the benchmark uses them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atoll.bench.cloudlet import captured_material, material
from atoll.bench.cloudlet.captured_material import CODE_AT, PAGE_AT, CapturedMaker, resumes
from atoll.bench.cloudlet.guest import CloudletGuest
from atoll.identifiers import RESUMES


class Sites:
    """Two sites, one guest of which is captured; records what is asked."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[str] = []
        self.directory = directory
        self.cloud = SimpleNamespace(state=SimpleNamespace(), environment={}, settings=lambda site: SimpleNamespace(data=directory / site))

    def __getattr__(self, name: str) -> Any:
        def asked(*_: Any) -> str:
            self.asked.append(name)
            return name

        return asked

    def watch(self, _site: str, _address: str) -> Any:
        return nullcontext(SimpleNamespace(first=lambda *_: None))


@pytest.fixture
def made(tmp_path, monkeypatch) -> tuple[CapturedMaker, Sites, list[tuple[str, ...]]]:
    calls: list[tuple[str, ...]] = []

    def capture(_state: Any, _log: Any, _environment: Any, *words: str) -> None:
        calls.append(words)
        target = Path(words[-1])
        target.mkdir()
        with (target / "disk").open("wb") as disk:
            disk.truncate(1 << 30)
        (target / "memory").write_bytes(b"memory")
        (target / "hardware").write_text("{}")

    monkeypatch.setattr(captured_material, "atoll", capture)
    monkeypatch.setattr(captured_material, "convert", lambda *_: None)
    sites = Sites(tmp_path)
    guest = CloudletGuest("guest", tmp_path / "guest.img", None, "", 96)
    directory = tmp_path / "made"
    directory.mkdir()
    return CapturedMaker(guest, directory, lambda *words: calls.append(words), sites), sites, calls


def test_one_guest_is_captured_for_all_bases_and_overlays(made):
    maker, sites, calls = made
    bases = [maker.base() for _ in range(2)]
    overlay = maker.overlay(bases[1])
    assert [words[1] for words in calls] == ["capture", "base", "base", "overlay"]
    assert sites.asked.count("create") == sites.asked.count("delete") == 1
    assert calls[1] == ("cloudlet", "base", str(bases[0].directory), "--capture", str(bases[0].disk.parent))
    assert (overlay.disk.parent / "memory").read_bytes() == b"memory", "the application goes on from the base's memory"
    pages = []
    for disk in (bases[0].disk, bases[1].disk, overlay.disk):
        with disk.open("rb") as file:
            file.seek(PAGE_AT)
            pages.append(file.read(4096))
    assert len(set(pages)) == 3, "each is new to every site"
    with overlay.disk.open("rb") as file:
        file.seek(CODE_AT)
        assert file.read(len(material.code())) == material.code()
        assert file.seek(0, 2) == 1 << 30, "the flavor's disk is not exceeded"
    overlay.file.touch()
    overlay.delete()


def test_memory_is_uploaded_signed_and_public(made):
    maker, _, _ = made
    assert maker.base_words == ("--key", maker._key, "--visibility", "public")
    assert maker.overlay_words == ("--trust", maker.public, "--visibility", "public")


def test_guests_are_captured_only_where_both_sites_resume_memory(tmp_path):
    sites = Sites(tmp_path)
    found = []
    for site in ("", "home", "edge"):
        if site:
            (tmp_path / site / "cloudlet").mkdir(parents=True)
            (tmp_path / site / "cloudlet" / RESUMES).touch()
        found.append(resumes(sites))
    assert found == [False, False, True]
