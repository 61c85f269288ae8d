import configparser
from pathlib import Path
from types import SimpleNamespace

import pytest
from keystoneauth1.exceptions import ConnectFailure

from atoll.cloud import PORT_OFFSETS
from atoll.errors import AtollError
from atoll.services import SERVICES, Settings, ini
from atoll.site.composition import SECRETS
from atoll.site.tempest import Lookup, Resources, tempest_conf

RESOURCES = Resources(("i1", "i2"), ("f1", "f2"), ("n1", "public"), "p1", ("quotas", "router"))
PORTS = {name: 15000 + offset for name, offset in PORT_OFFSETS.items()}
PASSWORDS = dict.fromkeys(SECRETS, "pass $word")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings("paris", tmp_path, tmp_path, "127.0.0.1", PORTS, PASSWORDS)


def rendered(settings: Settings, **options: ini.Sections) -> configparser.RawConfigParser:
    """The tempest.conf of a site whose services are told these options as well."""
    for service in SERVICES:
        for name, text in service.configuration(settings).items():
            path = settings.etc / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n{ini.render(options.get(service.name, {}))}")
    parser = configparser.RawConfigParser(default_section="")
    parser.read_string(tempest_conf(settings, RESOURCES))
    return parser


class FakeSite:
    """Stands for the site's APIs: a few collections, addressed as the real ones are, without their filters."""

    def __init__(self, **found: list[dict[str, object]]) -> None:
        self.found = {name: found.get(name, []) for name in ("images", "flavors", "networks", "subnetpools", "extensions")}
        self.made: list[dict[str, object]] = []
        self.uploads: list[str] = []

    def get(self, url: str) -> SimpleNamespace:
        name = url.partition("?")[0].rpartition("/")[2]
        wanted = url.partition("name=")[2].partition("&")[0]
        found = [item for item in self.found[name] if not wanted or item["name"] == wanted]
        return SimpleNamespace(json=lambda: {name: found})

    def post(self, url: str, json: dict[str, object]) -> SimpleNamespace:
        name, fields = next(iter(json.items())) if len(json) == 1 else ("image", json)
        assert isinstance(fields, dict)
        made = {**fields, "id": f"{name} {fields['name']}", "subnets": []}
        self.made.append({name: fields})
        self.found.get(f"{name}s", []).append(made)
        return SimpleNamespace(json=lambda: made if name == "image" else {name: made})

    def put(self, url: str, data: bytes, headers: dict[str, str]) -> None:
        self.uploads.append(url)
        assert len(data) > 0
        assert headers["Content-Type"] == "application/octet-stream"


def look(settings: Settings, site: FakeSite, *, create: bool = True) -> tuple[Resources, list[str]]:
    said: list[str] = []
    return Lookup(settings, create=create, report=said.append, session=site).resources(), said


def test_conf_says_where_the_site_is_and_what_is_there(settings):
    conf = rendered(settings)
    assert conf["identity"]["uri_v3"] == "http://127.0.0.1:15001/identity/v3"
    assert conf["auth"]["admin_password"] == "pass $$word"
    assert (conf["compute"]["image_ref"], conf["compute"]["image_ref_alt"]) == ("i1", "i2")
    assert (conf["compute"]["flavor_ref"], conf["compute"]["flavor_ref_alt"]) == ("f1", "f2")
    assert dict(conf["network"]) == {"public_network_id": "n1", "floating_network_name": "public"}
    assert conf["network-feature-enabled"]["api_extensions"] == "quotas,router"
    assert conf["service_available"]["cinder"] == "false"
    assert set(conf["enforce_scope"].values()) == {"true"}


def test_conf_knows_only_options_that_tempest_has(settings):
    config = pytest.importorskip("tempest.config")
    known = {(group.name if group else "DEFAULT", option.name) for group, options in config.list_opts() for option in options}
    conf = rendered(settings)
    written = {(section, option) for section in conf.sections() for option in conf[section]}
    assert written - known - {("DEFAULT", "log_file"), ("oslo_concurrency", "lock_path")} == set()


def test_flags_of_a_usual_site(settings):
    conf = rendered(settings)
    assert conf["identity-feature-enabled"]["security_compliance"] == "false"
    assert "user_lockout_duration" not in conf["identity"]
    flags = conf["image-feature-enabled"]
    assert [flags[name] for name in ("manage_locations", "http_store_enabled", "store_weight_enabled")] == ["false"] * 3
    assert conf["image"]["image_caching_enabled"] == "false"


def test_flags_follow_the_options_of_the_site(settings):
    conf = rendered(
        settings,
        keystone={"security_compliance": {"lockout_failure_attempts": 3, "lockout_duration": 7, "unique_last_password_count": 4}},
        glance={
            "DEFAULT": {"enabled_backends": ["files:file", "web:http"], "show_multiple_locations": True, "image_cache_dir": "/cache"},
            "files": {"weight": 1},
        },
    )
    assert conf["identity-feature-enabled"]["security_compliance"] == "true"
    names = ("user_lockout_failure_attempts", "user_lockout_duration", "user_unique_last_password_count")
    assert [conf["identity"][name] for name in names] == ["3", "7", "4"]
    flags = conf["image-feature-enabled"]
    assert [flags[name] for name in ("manage_locations", "http_store_enabled", "store_weight_enabled")] == ["true"] * 3
    assert conf["image"]["image_caching_enabled"] == "true"


def test_what_is_missing_is_made_and_said(settings):
    site = FakeSite(extensions=[{"alias": "router"}, {"alias": "dns"}])
    resources, said = look(settings, site)
    assert resources == Resources(
        images=("image tempest", "image tempest-alt"),
        flavors=("flavor m1.nano", "flavor m1.tiny"),
        public_network=("network public", "public"),
        subnet_pool="subnetpool shared-default-v4",
        extensions=("dns", "router"),
    )
    assert [line.split()[1] for line in said] == ["image", "image", "flavor", "flavor", "network", "subnet", "subnet"]
    assert len(site.uploads) == 2


def test_second_time_nothing_is_made(settings):
    site = FakeSite()
    first, _said = look(settings, site)
    site.found["networks"][0]["subnets"] = ["s1"]
    site.made.clear()
    assert look(settings, site, create=False) == (first, [])
    assert site.made == []


def test_network_without_subnet_gets_one(settings):
    site = FakeSite(networks=[{"id": "n7", "name": "outside", "subnets": []}])
    resources, _said = look(settings, site)
    assert resources.public_network == ("n7", "outside")
    assert [fields["network_id"] for made in site.made for kind, fields in made.items() if kind == "subnet"] == ["n7"]


def test_nothing_is_made_unasked(settings):
    site = FakeSite()
    with pytest.raises(AtollError, match="paris has no image tempest") as caught:
        look(settings, site, create=False)
    assert caught.value.kind.code == "tempest.missing"
    assert site.made == []


def test_site_that_does_not_answer(settings, monkeypatch):
    site = FakeSite()

    def refuse(_url: str) -> SimpleNamespace:
        raise ConnectFailure("Unable to establish connection\nmore")

    monkeypatch.setattr(site, "get", refuse)
    with pytest.raises(AtollError, match=r"paris does not answer as it should: Unable to establish connection$") as caught:
        look(settings, site)
    assert caught.value.kind.code == "site.not_running"
