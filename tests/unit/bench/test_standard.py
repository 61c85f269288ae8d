import os
import re
import runpy
import sys
import time
from configparser import ConfigParser
from pathlib import Path

import pytest

from atoll.bench.standard import accounts, configuration, servers
from atoll.bench.standard.daemons import Daemons, Program
from atoll.bench.standard.deployment import Deployment
from atoll.errors import AtollError
from atoll.services import SERVICES


@pytest.fixture
def deployment(tmp_path) -> Deployment:
    return Deployment(tmp_path, {"PATH": os.environ["PATH"]})


@pytest.fixture
def daemons(tmp_path) -> Daemons:
    return Daemons(tmp_path, {"PATH": os.environ["PATH"]})


def python(name: str, code: str) -> Program:
    return Program(name, (sys.executable, "-c", code))


# configuration


def test_configuration_is_the_sites_own_with_another_database_and_bus(deployment):
    settings = deployment.settings
    configuration.write(settings, lambda name: f"mysql://{name}", "rabbit://bus")
    text = (settings.etc / "nova/nova.conf").read_text()
    parsed = ConfigParser(strict=False, interpolation=None)
    parsed.read_string(text)
    assert parsed["DEFAULT"]["compute_driver"] == "fake.FakeDriver"
    assert parsed["DEFAULT"]["transport_url"] == "rabbit://bus"
    assert parsed["database"]["connection"] == "mysql://nova"
    assert parsed["DEFAULT"]["allow_resize_to_same_host"] == "true"
    assert (settings.etc / "nova/nova.conf").stat().st_mode & 0o777 == 0o600
    everything = "".join(path.read_text() for path in settings.etc.rglob("*.conf"))
    for database in set(configuration.DATABASES) - {"nova_cell0"}:
        assert f"mysql://{database}\n" in everything


def test_policies_are_those_of_a_site(deployment):
    """Options at the end of a policy in YAML would make it unreadable, and `nova-manage` fail."""
    settings = deployment.settings
    configuration.write(settings, lambda name: f"mysql://{name}", "rabbit://bus")
    policies = [path for path in settings.etc.rglob("*") if path.is_file() and path.suffix != ".conf"]
    own = {name: text for service in SERVICES for name, text in service.configuration(settings).items()}
    assert {str(path.relative_to(settings.etc)): path.read_text() for path in policies if path.suffix == ".yaml"} == {
        name: text for name, text in own.items() if name.endswith(".yaml")
    }
    assert any(path.suffix == ".yaml" for path in policies)


@pytest.mark.parametrize("name", configuration.GUNICORN)
def test_gunicorn_is_configured_by_a_file(deployment, name):
    program = deployment._gunicorn(name)
    assert len(program.command) == 1
    options = runpy.run_path(str(program.directory / "gunicorn.conf.py"))
    assert (options["workers"], options["worker_class"], options["threads"]) == (2, "gthread", 8)
    assert options["bind"].startswith("127.0.0.1:")


def test_no_secret_is_on_a_command_line(deployment, monkeypatch):
    monkeypatch.setattr(servers, "_find", lambda program: program)
    prepare = [*deployment._keystone(), *deployment._glance(), *deployment._placement(), *deployment._neutron(), *deployment._nova()]
    own = [deployment._database.initialise(), deployment._database.daemon(), deployment._database.create(["x"]), *deployment._bus.daemons()]
    words = [word for program in [*prepare, *own, *deployment._others()] for word in program.command]
    assert words
    for secret in deployment.settings.secrets.values():
        assert not [word for word in words if secret in word]


def test_private_files(deployment, monkeypatch):
    monkeypatch.setattr(servers, "_find", lambda program: program)
    deployment._database.create(["x"])
    deployment._bus.configure()
    for name in ("mariadb/mariadb.sql", "rabbitmq/rabbitmq.config"):
        assert (deployment.settings.directory / name).stat().st_mode & 0o777 == 0o600


def test_servers_stay_on_the_loopback_interface(deployment, monkeypatch):
    monkeypatch.setattr(servers, "_find", lambda program: program)
    assert "--bind-address=127.0.0.1" in deployment._database.daemon().command
    mapper, node = deployment._bus.daemons()
    assert mapper.command[:3] == ("epmd", "-address", "127.0.0.1")
    assert node.environment["RABBITMQ_NODE_IP_ADDRESS"] == "127.0.0.1"
    assert "{127,0,0,1}" in node.environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
    assert Path(node.environment["HOME"]).is_relative_to(deployment.settings.directory)


# requirements


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(servers, "_find", lambda program: None if program == "epmd" else program)
    with pytest.raises(AtollError, match="needs rabbitmq-server from Debian's packages") as caught:
        servers.check_requirements()
    assert caught.value.kind.code == "bench.requirement"
    assert "apt-get install --no-install-recommends rabbitmq-server" in str(caught.value.hint)


def test_missing_modules_are_named(monkeypatch):
    monkeypatch.setattr(servers, "find_spec", lambda name: None if name == "gunicorn" else name)
    with pytest.raises(AtollError, match="gunicorn and pymysql") as caught:
        servers.check_requirements()
    assert caught.value.hint == "`make install`"


def test_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(servers, "_find", lambda program: program)
    servers.check_requirements()


def test_server_that_does_not_answer(deployment):
    assert not deployment._database.is_up()
    assert not deployment._bus.is_up()


# accounts


def test_accounts(deployment, api):
    def identity(path, body):
        kind = path.rpartition("/")[2]
        return 200, {"roles": [{"name": "admin", "id": "1"}, {"name": "service", "id": "2"}], kind.removesuffix("s"): {"id": kind}}

    api._identity_get = api._identity_post = identity
    api._identity_put = lambda _path, _body: (204, None)
    accounts.create(api, deployment.settings)
    made = [(method, path) for _service, method, path in api.requests]
    assert made.count(("POST", "/users")) == 4
    assert made.count(("POST", "/endpoints")) == 12
    assert ("PUT", "/projects/projects/users/users/roles/2") in made


# daemons


def test_daemons_run_until_stopped(daemons):
    daemons.start([python("one", "import time; time.sleep(600)"), python("two", "import time; time.sleep(600)")])
    daemons.check()
    assert len(daemons.pids()) >= 2
    daemons.stop()
    assert daemons.pids() == []


def test_a_daemon_that_ended_is_told_with_its_last_line(daemons):
    daemons.start([python("one", "raise SystemExit('no such port')")])
    deadline = time.monotonic() + 10
    with pytest.raises(AtollError, match="one ended with exit status 1: no such port"):
        while time.monotonic() < deadline:
            daemons.check()
            time.sleep(0.01)
    daemons.stop()


def test_run_fails_with_the_program(daemons):
    daemons.run(python("fine", "pass"))
    with pytest.raises(AtollError, match="broken ended with exit status 3: its log is empty"):
        daemons.run(python("broken", "import sys; sys.exit(3)"))


def test_chains_keep_their_order(daemons, tmp_path):
    def write(letter: str) -> Program:
        return python(letter, f"open({str(tmp_path / 'order')!r}, 'a').write({letter!r})")

    daemons.run_all([write("a"), write("b"), write("c")], [])
    assert (tmp_path / "order").read_text() == "abc"
    with pytest.raises(AtollError, match="broken ended"):
        daemons.run_all([write("d")], [python("broken", "import sys; sys.exit(1)")])


def test_a_password_of_rabbitmq_may_have_any_characters(tmp_path, monkeypatch):
    """Since RabbitMQ 4, `rabbitmq.conf` takes the text before a colon for the name of the password's encryption."""
    monkeypatch.setattr(servers, "_find", lambda program: program)
    node = servers.RabbitMQ(tmp_path, (1, 2, 3), "a:'\"é#")
    node.configure()
    file = Path(node.daemons()[1].environment["RABBITMQ_CONFIG_FILE"])
    assert file.suffix == ".config"
    binaries = re.findall(r"<<([0-9,]*)>>", file.read_text(encoding="ascii"))
    assert [bytes(map(int, each.split(","))).decode() for each in binaries] == ["openstack", "a:'\"é#"]
