"""Gateways on a local network: announced by DNS-SD and verified by their certificates, in two network namespaces that a cable joins."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import DNSAddress, DNSCache
from zeroconf.const import _CLASS_IN, _TYPE_A

from atoll.cli import cloudlet_find
from atoll.cloudlet import local
from atoll.cloudlet.local import Found, LocalSearch, LocalSite, Stranger
from atoll.errors import AtollError
from atoll.local_network import MOST_A_SECOND
from atoll.mesh.certificates import authority

HERE = Path(__file__).parent
ALONE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
PARIS = LocalSite("paris", "test", "r", "http://10.9.0.1:8080/identity/v3", "10.9.0.1", 8443, "ab" * 32, "authority", 1.5)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the results of `local_device.py`."""
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may make no network namespaces")
    paths = [str(HERE.parent), str(HERE.parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    words = [*ALONE, sys.executable, str(HERE / "local_device.py"), str(tmp_path_factory.mktemp("lan"))]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def names(found: dict[str, Any]) -> tuple[list[str], list[str]]:
    return [each["site"] for each in found["sites"]], [each["reason"] for each in found["untrusted"]]


def test_gateway_is_found_by_the_authority_or_a_confirmed_fingerprint_alone(results: dict[str, Any]) -> None:
    assert results["appeared"]
    for name, trusted in (("authority", "authority"), ("confirmed", "fingerprint")):
        (site,) = results[name]["sites"]
        assert results[name]["untrusted"] == []
        assert (site["site"], site["cloud"], site["region"], site["address"]) == ("paris", "test", "r", "10.9.0.1")
        assert site["url"].startswith("http://10.9.0.1:")
        assert (site["trusted"], site["fingerprint"]) == (trusted, results["fingerprint"])
    assert names(results["nothing"]) == ([], ["no authority and no fingerprint is trusted"])
    assert names(results["other"]) == ([], ["its fingerprint is not a confirmed one"])
    assert results["nothing"]["untrusted"][0]["fingerprint"] == results["fingerprint"], "which the user can compare"


def test_stranger_on_the_network_imitates_no_site(results: dict[str, Any]) -> None:
    assert names(results["stranger"]) == (["paris"], ["no trusted authority has signed its certificate"])
    assert names(results["compute"]) == (["paris"], ["its certificate is not one of a site"]), "the authority has signed it"
    for name in ("loopback", "mapped"):
        assert names(results[name]) == (["paris"], ["the announcement has no address of another machine"]), (
            "nothing of this machine is asked"
        )
    for name in ("stranger", "compute"):
        assert "192.0.2.66" not in json.dumps(results[name])


def test_malformed_name_ends_no_search(results: dict[str, Any]) -> None:
    assert names(results["malformed"])[0] == ["paris"]
    assert any(each["name"].startswith("evil?[2J") for each in results["malformed"]["untrusted"]), "it has arrived"
    assert all(each["name"].isprintable() for each in results["malformed"]["untrusted"])


def test_announcer_is_no_amplifier(results: dict[str, Any]) -> None:
    assert results["unicast"] == [], "a spoofed source gets nothing"
    answers, seconds = results["flood"]
    assert 1 <= answers <= (seconds + 2) * MOST_A_SECOND, "the limiter lets as many through at once as in two seconds"
    assert results["survived"], "it answers after malformed messages"


def test_announcement_ends_with_its_interface_or_its_process(results: dict[str, Any]) -> None:
    assert results["gone"]
    assert results["again"], "it is announced again when the address is back"
    assert results["stopped"] == {"sites": [], "untrusted": []}, "it was withdrawn"
    assert results["said"], "the log says why the gateway was not announced"
    assert all(each.startswith("the gateway is not announced at lan0: ") for each in results["said"])
    assert len(results["said"]) == len(set(results["said"])), "each reason once"


def test_errors_are_one_line(results: dict[str, Any]) -> None:
    busy = "discovery.network: UDP port 5353 of this machine is used by a program that does not share it"
    assert results["errors"][:3] == [
        busy,
        "discovery.network: there is no interface lan7: expected one of lan1, lo",
        "discovery.network: this machine has no IPv4 address in the network 10.77.0.0/16",
    ]
    assert results["errors"][-1] == "discovery.network: the interface lan1 is down"


def test_announcements_of_strangers_take_bounded_memory() -> None:
    """Some versions of zeroconf keep every record that anybody on the network sends."""
    cache = DNSCache()
    for number in range(20_000):
        cache.async_add_records([DNSAddress(f"h{number}.local.", _TYPE_A, _CLASS_IN, 2**31 - 1, b"\0\0\0\0")])
    assert len(cache.cache) <= 10_000


# The command


def run(monkeypatch: pytest.MonkeyPatch, found: Found, *words: str) -> Any:
    monkeypatch.setattr(LocalSearch, "find", lambda _search, _network, _seconds: found)
    return CliRunner().invoke(cloudlet_find.command, ["--local", *words])


def test_command_lists_verified_sites_and_names_the_others_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = Stranger("evil\x1b[2J", "10.9.0.66", 1, "cd" * 32, "no trusted authority has signed its certificate")
    done = run(monkeypatch, Found((PARIS,), (stranger,)))
    assert (done.exit_code, done.stdout) == (0, "paris  r  http://10.9.0.1:8080/identity/v3\n")
    assert done.stderr.startswith("note: not trusted: evil")
    assert "\x1b" not in done.stderr
    assert "cd" * 32 in done.stderr
    shown = json.loads(run(monkeypatch, Found((PARIS,), (stranger,)), "--json").stdout)
    assert (shown["sites"][0]["site"], shown["untrusted"][0]["address"]) == ("paris", "10.9.0.66")


@pytest.mark.parametrize(
    ("strangers", "message"),
    [
        ((), "no site was found on the local network: no gateway is announced"),
        ((Stranger("a", "", 1, "", "x"),), "no site was found on the local network: 1 announcement is not trusted"),
    ],
)
def test_command_fails_if_no_site_is_verified(monkeypatch: pytest.MonkeyPatch, strangers: Any, message: str) -> None:
    error = run(monkeypatch, Found((), strangers)).exception
    assert isinstance(error, AtollError)
    assert (error.kind.code, error.message) == ("discovery.nobody", message)


@pytest.mark.parametrize("words", [["--local", "--cloud", "x"], ["--local", "--device", "10.1.2.3"], ["--fingerprint", "ab" * 32]])
def test_options_of_two_ways_are_not_mixed(words: list[str]) -> None:
    done = CliRunner().invoke(cloudlet_find.command, words)
    assert done.exit_code == 2
    assert "--local" in done.stderr


@pytest.mark.parametrize("mark", ["", "ab", "zz" * 32, "ab" * 33])
def test_malformed_fingerprint_is_refused(mark: str) -> None:
    with pytest.raises(AtollError, match="is not a fingerprint"):
        LocalSearch([], [mark])


def test_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(AtollError, match="expected the certificate of an authority"):
        LocalSearch([tmp_path / "ca.pem"])


def test_false_gateways_that_never_answer_cost_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "ANSWER_S", 0.2)
    asked, at_once = [], [0, 0]

    async def proved(_search: LocalSearch, address: str, _port: int) -> LocalSite:
        asked.append(address)
        at_once[0] += 1
        at_once[1] = max(at_once)
        try:
            if address == "10.0.0.255":
                return PARIS
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            at_once[0] -= 1

    async def browse(_network: str, _seconds: float) -> list[local.Announcement]:
        false = [local.Announcement(f"false-{number}", ("10.0.0.1",) * 9, 1) for number in range(local.MOST_FOUND - 1)]
        return [*false, local.Announcement("paris", ("10.0.0.1", "10.0.0.255"), 1)]

    monkeypatch.setattr(LocalSearch, "_proved", proved)
    monkeypatch.setattr(local, "browse", browse)
    found = LocalSearch().find()
    assert found.sites == (PARIS,), "it is asked after all the others, at its second address"
    assert len(found.strangers) == local.MOST_FOUND - 1
    assert len(asked) <= local.MOST_FOUND * local.MOST_ADDRESSES
    assert at_once[1] <= local.AT_ONCE * local.MOST_ADDRESSES


MAPPED = ("::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "224.0.0.251", "0.0.0.0", "255.255.255.255", "169.254.169.254", "::1", "ff02::fb", *MAPPED]
)
def test_addresses_of_no_other_machine_are_not_asked(address: str) -> None:
    assert not local._is_of_another(address)


@given(st.binary(max_size=200))
def test_any_answer_is_accepted_or_refused(answer: bytes) -> None:
    for each in (answer, b"HTTP/1.1 200 OK\r\n\r\n" + answer):
        assert local._said(each) is None
    assert local._site_of(answer) == ""


def test_deeply_nested_answer_is_refused() -> None:
    assert local._said(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * (local.MOST_BYTES - 30)) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://10.9.0.1:8080/identity/v3\nhint: x"),
        ("url", "file:///etc/passwd"),
        ("url", "http://a@10.9.0.66/identity/v3"),
        ("cloud", "a\x1b[2J"),
        ("region", 7),
        ("site", None),
    ],
)
def test_false_field_of_an_answer_is_refused(field: str, value: Any) -> None:
    said = {"cloud": "test", "site": "paris", "region": "r", "url": PARIS.url}
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    assert local._said(head + json.dumps(said).encode()) == said
    assert local._said(head + json.dumps(said | {field: value}).encode()) is None


def test_only_a_site_has_a_certificate_of_a_site(tmp_path: Path) -> None:
    maker = authority(tmp_path / "ca", "test")
    for name, unique, expected in (("paris", False, "paris"), ("host-1", True, "")):
        maker.certify(tmp_path / name, name, "10.9.0.1", unique=unique)
        pem = (tmp_path / name / "cert.pem").read_text()
        assert local._site_of(local.ssl.PEM_cert_to_DER_cert(pem)) == expected
    assert local._site_of(local.ssl.PEM_cert_to_DER_cert((tmp_path / "ca" / "ca.pem").read_text())) == ""
