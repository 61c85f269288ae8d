"""The configuration of the five services, as oslo.config and upstream's own options understand it."""

import re
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from oslo_config import cfg
from upstream import inside

from atoll import services
from atoll.services import COMPUTE, SERVICES, Service, Settings

EVERY = {service.name: service for service in (*SERVICES, COMPUTE)}
NAMES = list(EVERY)
SECRETS = {
    "keystone": set(),
    "placement": {"placement"},
    "glance": {"glance"},
    "neutron": {"neutron", "nova", "placement"},
    "nova": {"nova", "neutron", "placement", "metadata"},
    "nova-compute": {"nova", "neutron", "placement"},
}
"""The accounts whose passwords each service has; none has the administrator's."""

COMMON = [
    "oslo.log",
    "oslo.messaging",
    "oslo.messaging.zenoh",
    "oslo.policy",
    "oslo.db",
    "oslo.concurrency",
    "oslo.cache",
    "oslo.middleware",
    "keystonemiddleware.auth_token",
]
NAMESPACES = {
    "keystone": ["keystone"],
    "placement": ["placement.conf"],
    "glance": ["glance.api", "glance", "glance.multi_store"],
    "neutron": ["neutron", "neutron.db", "neutron.extensions", "neutron.ml2", "nova.auth", "placement.auth", "oslo.service.wsgi"],
    "nova": ["nova.conf"],
    "nova-compute": ["nova.conf"],
}

UNDERSTAND = """
    from importlib.metadata import entry_points
    from keystoneauth1 import loading
    from oslo_config import cfg

    conf, known = cfg.ConfigOpts(), {}

    def register(group, options):
        name = getattr(group, "name", group) or "DEFAULT"
        for option in options:
            known[name, option.dest] = option
            option.required = False
            try:
                conf.register_opt(option, group=None if name == "DEFAULT" else name)
            except cfg.DuplicateOptError:
                pass

    for point in entry_points(group="oslo.config.opts"):
        if point.name in sys.argv[2:]:
            for group, options in point.load()():
                register(group, options)
    register("keystone_authtoken", loading.get_auth_plugin_conf_options("password"))
    # Glance names the sections of its stores itself.
    if "glance.api" in sys.argv:
        from glance_store._drivers import filesystem
        for section in ("files", "os_glance_staging_store", "os_glance_tasks_store"):
            register(section, filesystem._FILESYSTEM_CONFIGS)

    sections = {}
    cfg.ConfigParser(sys.argv[1], sections).parse()
    conf([], default_config_files=[sys.argv[1]])
    values = {}
    for section, options in sections.items():
        for option in options:
            if (section, option) in known:
                value = conf[option] if section == "DEFAULT" else conf[section][option]
                values[f"{section}.{option}"] = value if isinstance(value, (str, int, bool, list)) else str(value)
    tell({
        "unknown": sorted(f"{s}.{o}" for s, os in sections.items() for o in os if (s, o) not in known),
        "deprecated": sorted(f"{s}.{o}" for s, os in sections.items() for o in os
                             if (s, o) in known and known[s, o].deprecated_for_removal),
        "values": values,
    })
"""


def told(service: Service, settings: Settings) -> Settings:
    """The settings of a site that runs the service."""
    if service is not COMPUTE:
        return replace(settings, transport_url="zenoh:///paris")
    return replace(settings, site="edge", transport_url="zenoh://127.0.0.1:15009/paris", control="paris", address="127.0.0.2")


def rendered(name: str, settings) -> dict[str, str]:
    """The files of options that a service gets."""
    files = EVERY[name].configuration(told(EVERY[name], settings))
    return {path: text for path, text in files.items() if not path.endswith(".yaml")}


def parsed(text: str, tmp_path: Path) -> dict[str, dict[str, list[str]]]:
    file = tmp_path / "x.conf"
    file.write_text(text, encoding="utf-8")
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(str(file), sections).parse()
    return sections


@pytest.mark.parametrize("name", NAMES)
def test_files_are_below_the_services_own_directory(name, settings):
    for path in map(PurePosixPath, rendered(name, settings)):
        assert path.parts[0] == EVERY[name].fork_server
        assert not path.is_absolute()
        assert ".." not in path.parts


@pytest.mark.parametrize("name", NAMES)
def test_file_parses_and_says_each_thing_once(name, settings, tmp_path):
    for text in rendered(name, settings).values():
        sections = parsed(text, tmp_path)
        assert sections
        assert [values for options in sections.values() for values in options.values() if len(values) != 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_service_is_told_only_the_secrets_it_needs(name, settings):
    text = "".join(rendered(name, settings).values())
    assert {owner for owner in settings.secrets if f"secret-of-{owner}-" in text} == SECRETS[name]


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_the_sites_or_of_what_is_installed(name, settings):
    text = "".join(rendered(name, settings).values())
    paths = [path.removeprefix("sqlite:///") for path in re.findall(r"(?:sqlite:///|(?<=[ ,=]))/[^ ,?\n]+", text)]
    paths = [each for path in paths for each in path.split(":")]  # the directories of Neutron's extensions are a list
    assert paths
    for path in paths:
        assert path.startswith((f"{settings.directory}/", f"{sys.prefix}/etc/", f"{Path(services.__file__).parent}/")), path
        assert path.startswith(f"{settings.directory}/") or Path(path).exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_url_is_one_of_the_sites_own(name, settings):
    text = "".join(rendered(name, settings).values())
    own = {settings.url(endpoint) for endpoint in settings.ports}
    assert set(re.findall(r"http://[^/\s]+", text)) <= own


@pytest.mark.parametrize("name", [name for name in NAMES if name != "placement"])
def test_bus_is_the_sites_own(name, settings, tmp_path):
    for text in rendered(name, settings).values():
        sections = parsed(text, tmp_path)
        assert sections["DEFAULT"]["transport_url"] == [told(EVERY[name], settings).transport_url]
        assert sections["oslo_messaging_zenoh"]["journal_dir"] == [f"{settings.directory}/data/bus/journal"]


@pytest.mark.parametrize("name", NAMES)
def test_durability_reaches_every_database_and_the_bus(name, settings):
    """All data of a service are durable, unless its site is `relaxed`; then none are."""
    for durability, is_relaxed in (("full", False), ("relaxed", True)):
        text = "".join(rendered(name, replace(settings, durability=durability)).values())
        databases = re.findall(r"sqlite:///\S+", text)
        assert [database.endswith("&durability=relaxed") for database in databases] == [is_relaxed] * len(databases)
        told_of_bus = re.findall(r"^durable = (\w+)$", text, re.MULTILINE)
        assert told_of_bus == ["false" if is_relaxed else "true"] * text.count("[oslo_messaging_zenoh]")


def test_stock_traffic_leaves_out_the_extension_that_reduces_it(settings, tmp_path):
    for traffic, has_it in (("reduced", True), ("stock", False)):
        text = "".join(rendered("neutron", replace(settings, traffic=traffic)).values())
        [plugins] = re.findall(r"^service_plugins = (.*)$", text, re.MULTILINE)
        assert ("expanded-ports" in plugins, "given-id" in plugins) == (has_it, True)


def test_sites_processes_find_one_another_and_a_compute_site_goes_through_the_router(settings, tmp_path):
    own = parsed("".join(rendered("nova", settings).values()), tmp_path)["oslo_messaging_zenoh"]
    assert own["socket_dir"] == [f"{settings.directory}/run"]
    assert "tls" not in own
    remote = parsed("".join(rendered("nova-compute", settings).values()), tmp_path)["oslo_messaging_zenoh"]
    assert (remote["socket_dir"], remote["mode"], remote["tls"]) == (["none"], ["client"], ["true"])
    assert remote["tls_cert_file"] == [f"{settings.directory}/tls/cert.pem"]


def test_compute_site_is_called_by_its_own_name_and_has_no_database(settings, tmp_path):
    sections = parsed("".join(rendered("nova-compute", settings).values()), tmp_path)
    assert (sections["DEFAULT"]["host"], sections["DEFAULT"]["my_ip"]) == (["edge"], ["127.0.0.2"])
    assert {"database", "api_database", "keystone_authtoken"} & sections.keys() == set()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "placement"])
def test_rabbitmq_instead(name, settings, tmp_path):
    """The password may contain characters that oslo.config takes for a reference."""
    url = "rabbit://u:p$x%40@h:5672/"
    files = EVERY[name].configuration(replace(told(EVERY[name], settings), transport_url=url))
    text = "".join(text for path, text in files.items() if not path.endswith(".yaml"))
    sections = parsed(text, tmp_path)
    assert sections["DEFAULT"]["transport_url"] == [url.replace("$", r"\$")]
    assert "oslo_messaging_zenoh" not in sections


@pytest.mark.parametrize("name", NAMES)
def test_debug_reaches_the_service(name, settings, tmp_path):
    text = "".join(rendered(name, replace(settings, debug=True)).values())
    assert parsed(text, tmp_path)["DEFAULT"]["debug"] == ["true"]
    assert parsed("".join(rendered(name, settings).values()), tmp_path)["DEFAULT"]["debug"] == ["false"]


@pytest.fixture(scope="module")
def understood(tmp_path_factory) -> Any:
    """The options of a service's file as upstream parses them, once for each service."""
    answers: dict[str, Any] = {}

    def understood_(name: str, settings) -> Any:
        if name not in answers:
            file = tmp_path_factory.mktemp(name) / "x.conf"
            file.write_text("".join(rendered(name, settings).values()), encoding="utf-8")
            answers[name] = inside(UNDERSTAND, str(file), *COMMON, *NAMESPACES[name])
        return answers[name]

    return understood_


@pytest.mark.parametrize("name", NAMES)
def test_upstream_knows_every_option(name, settings, understood):
    """Upstream would silently ignore a misspelt option, or one that it has dropped."""
    assert understood(name, settings)["unknown"] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_option_is_about_to_go(name, settings, understood):
    # Neutron has no newer name for this option yet (`load_paste_app` in neutron/common/config.py).
    expected = {"neutron": ["DEFAULT.api_paste_config"]}
    assert understood(name, settings)["deprecated"] == expected.get(name, [])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("keystone", "nova-compute")])
def test_password_arrives_as_it_is(name, settings, understood):
    values = understood(name, settings)["values"]
    assert values["keystone_authtoken.password"] == settings.secrets[name]
    assert values["keystone_authtoken.username"] == name


def test_lists_arrive_as_lists(settings, understood):
    values = understood("neutron", settings)["values"]
    assert "router" in values["DEFAULT.service_plugins"]
    assert values["ml2.mechanism_drivers"] == ["agentless"]
    assert "qos" in values["ml2.extension_drivers"]


GATEWAY = """
    from oslo_config import cfg
    from oslo_policy import policy
    rules = {"nova": "nova.policies.base", "glance": "glance.policies.base", "neutron": "neutron.conf.policies.base"}[sys.argv[1]]
    import importlib
    defaults = [rule for rule in importlib.import_module(rules).rules if rule.name == "context_is_admin"]
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    enforcer = policy.Enforcer(conf)
    if len(sys.argv) == 3:
        conf.set_override("policy_dirs", [sys.argv[2]], group="oslo_policy")
        conf.set_override("enforce_new_defaults", True, group="oslo_policy")
    enforcer.register_defaults(defaults)
    tell([bool(enforcer.authorize("context_is_admin", {}, {"roles": [role]})) for role in ("admin", "gateway_compute", "gateway_image",
          "gateway_network", "service", "member")])
"""


@pytest.mark.parametrize(("name", "expected"), [("nova", 1), ("glance", 2), ("neutron", 3)])
def test_gateways_account_is_the_administrator_of_one_service(name, expected, settings, tmp_path):
    """nova-compute, Placement and Keystone do not know the account."""
    files = {path: text for path, text in EVERY[name].configuration(settings).items() if path.endswith(".yaml")}
    ((path, text),) = files.items()
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d" / PurePosixPath(path).name).write_text(text)
    assert f"policy_dirs = {settings.etc / PurePosixPath(path).parent}" in "".join(rendered(name, settings).values())
    assert inside(GATEWAY, name) == [True, *[False] * 5]
    assert inside(GATEWAY, name, str(tmp_path / "policy.d")) == [index in {0, expected} for index in range(6)]


@pytest.mark.parametrize("name", ["keystone", "placement", "nova-compute"])
def test_other_services_have_no_such_administrator(name, settings):
    files = EVERY[name].configuration(told(EVERY[name], settings))
    policies = [rule for path, text in files.items() if path.endswith(".yaml") for rule in yaml.safe_load(text)]
    assert policies == (["identity:validate_token"] if name == "keystone" else [])
