"""The options and member cards of each site's gateway when a cloud is brought up."""

import json

import pytest

from atoll.cloud.changes import NewSite
from atoll.gateway.announcer import Announced
from atoll.gateway.options import ANNOUNCER_FILE, FILE, Options
from atoll.identifiers import GATEWAY_SERVICES, LOCAL_USERS, gateway_role, local_endpoint, local_user
from atoll.services.keystone.bootstrap import BESIDES
from atoll.site.gateway import MEMBERS_FILE
from atoll.site.single_sites import add
from atoll.site.sites import site_settings
from atoll.site.up import up


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cloud.yaml"
    path.write_text("name: sea\nsites: [{name: paris}, {name: lyon, host: 127.0.0.2}, {name: edge, kind: compute, control: paris}]\n")
    return path


def members(state, site):
    return {card["name"]: card for card in json.loads((state.site(site) / MEMBERS_FILE).read_text())}


def gateways(names):
    return [name for name in names if name.endswith("/gateway")]


def test_gateway_is_told_its_addresses_and_where_the_sites_things_are(state, cache, runtime, file):
    up(state, cache, file)
    told, directory = Options.load(state.site("lyon") / "etc" / FILE), state.site("lyon")
    assert (told.cloud, told.site, told.host) == ("sea", "lyon", "127.0.0.2")
    assert (told.public_port, told.peer_port, told.mesh_port) == (15011, 15013, 15017)
    assert told.services == {
        "identity": "http://127.0.0.1:15010",
        "image": "http://127.0.0.1:15012",
        "compute": "http://127.0.0.1:15014",
        "network": "http://127.0.0.1:15016",
        "placement": "http://127.0.0.1:15018",
    }
    assert told.password == site_settings(state, "lyon").secrets["gateway"]
    for path in (told.data, told.token_keys):
        assert path.is_relative_to(directory / "data")
    assert told.identity_database == site_settings(state, "lyon").database("keystone")
    assert {path.name for path in told.tls.iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    assert told.authority == state.root / "ca"
    assert (told.authority / "ca.key").is_file()
    assert told.members_file.is_file()


def test_keystone_and_gateway_are_told_whom_to_trust(state, cache, runtime, file):
    homed = "homed: [{domain: abc, sites: [paris]}, {project: def, sites: [lyon, paris]}]"
    file.write_text(file.read_text() + f"trust: {{lyon: local-admin, paris: full}}\n{homed}\n")
    up(state, cache, file)
    for told in (Options.load(state.site("paris") / "etc" / FILE), site_settings(state, "paris")):
        assert told.trust == {"lyon": "local-admin"}
        assert told.homed == {"domain/abc": ["paris"], "project/def": ["lyon", "paris"]}


@pytest.mark.parametrize("lists", ["partial", "strict"])
def test_gateway_is_told_how_lists_are_answered(state, cache, runtime, file, lists):
    if lists != "partial":
        file.write_text(file.read_text() + f"lists: {lists}\n")
    up(state, cache, file)
    assert {Options.load(state.site(name) / "etc" / FILE).lists for name in ("paris", "lyon")} == {lists}


def test_gateway_knows_what_is_the_sites_alone(state, cache, runtime, file):
    up(state, cache, file)
    told = Options.load(state.site("lyon") / "etc" / FILE)
    assert set(told.local_users) == {local_user("lyon", name) for name in (*LOCAL_USERS, *map(gateway_role, GATEWAY_SERVICES))}
    assert len(told.local_endpoints) == 3 * (len(told.services) + len(BESIDES))
    assert local_endpoint("lyon", "image", "public") in told.local_endpoints


def test_each_full_site_knows_all_and_a_compute_site_has_no_gateway(state, cache, runtime, file):
    up(state, cache, file)
    assert members(state, "paris") == members(state, "lyon")
    assert set(members(state, "paris")) == {"paris", "lyon"}
    assert members(state, "paris")["lyon"] == {
        "name": "lyon",
        "host": "127.0.0.2",
        "public_port": 15011,
        "peer_port": 15013,
        "mesh_port": 15017,
        "certificate": (state.site("lyon") / "tls/cert.pem").read_text(),
    }
    assert not (state.site("edge") / MEMBERS_FILE).exists()
    assert not (state.site("edge") / "etc" / FILE).exists()
    assert gateways(runtime.signatures) == ["paris/gateway", "lyon/gateway"]


def test_new_site_is_known_to_the_others_without_a_restart(state, cache, runtime, file):
    up(state, cache, file)
    assert gateways(add(state, cache, NewSite("rome"), lambda _event: None).started) == ["rome/gateway"]
    for site in ("paris", "lyon", "rome"):
        assert set(members(state, site)) == {"paris", "lyon", "rome"}


def test_members_from_elsewhere_stay(state, cache, runtime, file):
    up(state, cache, file)
    path = state.site("paris") / MEMBERS_FILE
    foreign = {"name": "oslo", "host": "192.0.2.7", "certificate": "C"}
    path.write_text(json.dumps([foreign, {"name": "lyon", "host": "127.0.0.9"}]))
    up(state, cache, file)
    assert members(state, "paris")["oslo"] == foreign
    assert members(state, "paris")["lyon"] == members(state, "lyon")["lyon"], (
        "cards of the state directory's own sites must replace older ones"
    )
    assert "oslo" not in members(state, "lyon")


def test_new_certificate_reaches_the_others(state, cache, runtime, file):
    up(state, cache, file)
    before = members(state, "paris")["lyon"]["certificate"]
    (state.site("lyon") / "tls/cert.pem").unlink()
    assert gateways(up(state, cache, file).started) == ["lyon/gateway"]
    assert members(state, "paris")["lyon"]["certificate"] == (state.site("lyon") / "tls/cert.pem").read_text() != before


def test_the_gateways_options_are_private(state, cache, runtime, file):
    up(state, cache, file)
    for path in (state.site("paris") / MEMBERS_FILE, state.site("paris") / "etc" / FILE):
        assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_anew_by_the_next_up(state, cache, runtime, file):
    up(state, cache, file)
    path = state.site("paris") / MEMBERS_FILE
    before = path.stat()
    assert up(state, cache, file).started == ()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_site_is_announced_where_the_file_says_so_by_a_process_without_secrets(state, cache, runtime, file):
    file.write_text(file.read_text() + "discovery: {announce: {lyon: lan0, abroad: wlan0}}\n")
    up(state, cache, file)
    announcers = [name for name in runtime.signatures if name.endswith("/announcer")]
    assert announcers == ["lyon/announcer"]
    told = Announced(**json.loads((state.site("lyon") / "etc" / ANNOUNCER_FILE).read_text()))
    certificate = str(state.site("lyon") / "tls/cert.pem")
    assert told == Announced("sea", "lyon", "127.0.0.2", 15013, "lan0", certificate)
    assert not (state.site("paris") / "etc" / ANNOUNCER_FILE).exists()
    assert [Options.load(state.site(name) / "etc" / FILE).announce for name in ("paris", "lyon")] == ["", "lan0"]
    file.write_text(file.read_text().replace("lyon: lan0, ", ""))
    up(state, cache, file)
    assert not any(name.endswith("/announcer") for name in runtime.signatures)
    assert not (state.site("lyon") / "etc" / ANNOUNCER_FILE).exists()
