"""The guest's scripts, run by the busybox that it would have."""

import json
import subprocess
from pathlib import Path

import pytest

from atoll.guest import programs
from atoll.guest.initramfs import ROOT

BUSYBOX = programs.find("busybox")
pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="busybox-static is not installed")


def run(*words: str, entered: str = "", **environment: str) -> str:
    done = subprocess.run([str(BUSYBOX), *words], input=entered, env=environment, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


def flat(text: str) -> list[str]:
    return run("awk", "-f", str(ROOT / "guest" / "json.awk"), entered=text).splitlines()


SCRIPTS = [path for path in sorted(ROOT.rglob("*")) if path.is_file() and path.read_bytes().startswith(b"#!")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_one(script):
    run("sh", "-n", str(script))


@pytest.mark.parametrize("indent", [None, 2])
def test_json_becomes_lines(indent):
    data = {
        "uuid": "6e3e",
        "meta": {"uuid": "another", "list": [1, True, None, {"deep": "a\\b\"c"}]},
        "name": "démo {1}, [2]: \N{RAINBOW}",
        "public_keys": {"my.key": "ssh-ed25519 AAAA me\n"},
        "nothing": {}, "none": [],
        "last": -1.5,
    }  # fmt: skip
    assert flat(json.dumps(data, indent=indent)) == [
        ".uuid\t6e3e",
        ".meta.uuid\tanother",
        ".meta.list.0\t1",
        ".meta.list.1\ttrue",
        ".meta.list.2\tnull",
        '.meta.list.3.deep\ta\\b"c',
        ".name\tdémo {1}, [2]: ??",  # characters beyond the Basic Multilingual Plane
        ".public_keys.my.key\tssh-ed25519 AAAA me ",
        ".last\t-1.5",
    ]


@pytest.mark.parametrize("text", ["", "{", '{"a": ', '{"a": "b', "<html>no</html>", '{"a" "b" ] : }}', "[[[[", '"\\'])
def test_malformed_json_comes_to_an_end(text):
    flat(text)


@pytest.fixture
def guest(tmp_path) -> Path:
    """Replace the script `common`, which other scripts read, by one that records their actions."""
    noted = tmp_path / "noted"
    run_directory = tmp_path / "run"
    (run_directory / "eth0").mkdir(parents=True)
    (tmp_path / "common").write_text(f"""
        RUN={run_directory}
        ip() {{ echo ip "$@" >>{noted}; }}
        failed() {{ echo failed "$@" >>{noted}; }}
        happened() {{ :; }}
        cat() {{ case $1 in /sys/*) echo 2 ;; *) {BUSYBOX} cat "$@" ;; esac; }}
    """)
    return tmp_path


def dhcp(guest: Path, event: str, **told: str) -> list[str]:
    script = (ROOT / "guest" / "dhcp").read_text().replace("/guest/common", f"{guest}/common").replace(">/etc/", f">{guest}/")
    (guest / "dhcp").write_text(script)
    run("sh", str(guest / "dhcp"), event, PATH="/bin:/usr/bin", interface="eth0", **told)
    return (guest / "noted").read_text().splitlines()


def test_dhcp_sets_address_mtu_and_the_router(guest):
    assert dhcp(guest, "bound", ip="10.0.0.5", mask="24", router="10.0.0.1", mtu="1442", dns="10.0.0.2 10.0.0.3", domain="example.org") == [
        "ip link set eth0 mtu 1442",
        "ip addr replace 10.0.0.5/24 broadcast + dev eth0",
        "ip route replace default via 10.0.0.1 dev eth0 metric 102",
    ]
    assert (guest / "resolv.conf").read_text() == "search example.org\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"


def test_name_servers_of_both_kinds_are_used(guest):
    """The DHCPv6 client dhcpcd calls the same script, and sets the address itself."""
    dhcp(guest, "bound", ip="10.0.0.5", mask="24", dns="10.0.0.2")
    noted = (guest / "noted").read_text()
    run("sh", str(guest / "dhcp"), PATH="/bin:/usr/bin", interface="eth0", reason="BOUND6", new_dhcp6_name_servers="fd00::2 fd00::3")
    assert (guest / "noted").read_text() == noted
    assert (guest / "resolv.conf").read_text().split("\n") == ["nameserver 10.0.0.2", "nameserver fd00::2", "nameserver fd00::3", ""]


def test_classless_routes_are_instead_of_the_router(guest):
    routes = "169.254.169.254/32 10.0.0.2 10.9.0.0/16 0.0.0.0 0.0.0.0/0 10.0.0.1"
    assert dhcp(guest, "bound", ip="10.0.0.5", mask="24", router="10.0.0.9", staticroutes=routes)[1:] == [
        "ip route replace 169.254.169.254/32 via 10.0.0.2 dev eth0 metric 102",
        "ip route replace 10.9.0.0/16 dev eth0 metric 102",
        "ip route replace 0.0.0.0/0 via 10.0.0.1 dev eth0 metric 102",
    ]


def test_a_lost_lease_takes_the_address_away(guest):
    assert dhcp(guest, "deconfig") == ["ip -4 addr flush dev eth0"]


def curl(directory: Path, *words: str) -> str:
    """Return the arguments with which the guest's curl calls wget."""
    wget = directory / "wget"
    wget.write_text('#!/bin/sh\necho "$@"\n')
    wget.chmod(0o755)
    script = directory / "curl"
    script.write_text((ROOT / "bin" / "curl").read_text().replace(" wget -q", f" {wget} -q"))  # busybox would run its own wget
    return run("sh", str(script), *words, PATH="/bin:/usr/bin")


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        (["http://169.254.169.254/latest"], "-q -O - http://169.254.169.254/latest"),
        (["-X", "POST", "-d", "a b", "http://host/"], "-q -O - --post-data a b http://host/"),
        (["-d", "", "http://host/"], "-q -O - --post-data  http://host/"),
        (["-s", "-o", "/tmp/page", "http://[fe80::1%25eth0]/"], "-q -O /tmp/page http://[fe80::1%eth0]/"),
    ],
)
def test_curl_asks_wget(tmp_path, asked, done):
    assert curl(tmp_path, *asked) == f"{done}\n"


@pytest.mark.parametrize("asked", [["-X", "PUT", "http://host/"], ["-F", "a=b", "http://host/"], []])
def test_unknown_options_of_curl_fail(tmp_path, asked):
    with pytest.raises(subprocess.CalledProcessError):
        curl(tmp_path, *asked)


def test_sudo_keeps_words_together():
    assert run("sh", str(ROOT / "bin" / "sudo"), "printf", "%s|", "a b", "c", PATH="/bin:/usr/bin") == "a b|c|"
