"""The broker in the network of a site: its password is in a file, it starts once the network exists, and dies with the site."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from atoll.bench import site_broker
from atoll.bench.site_broker import SiteBroker
from atoll.bench.standard import servers
from atoll.cloud import Cloud
from atoll.errors import AtollError
from atoll.experiment.architectures import Architecture, clouds


@pytest.fixture
def document(tmp_path):
    (made,) = clouds(Architecture(kind="standard", sites=(2,)), tmp_path)
    return made.document


@pytest.fixture
def broker(tmp_path, document):
    return SiteBroker(tmp_path, "site-1", document, {"PATH": os.environ["PATH"]})


def test_the_document_names_the_file_of_the_password(broker, document):
    cloud = Cloud.model_validate(broker.document(document))
    path = Path(cloud.sites[0].rabbit.password_file)
    assert len(path.read_text(encoding="ascii")) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert "password_file" not in document["sites"][0]["rabbit"], "the document of the cell stays as it was"
    assert cloud.sites[1].rabbit is None


def test_it_serves_at_the_address_of_its_site(broker, document, monkeypatch):
    monkeypatch.setattr(servers, "_program", lambda name: name)  # the package may be missing
    host = Cloud.model_validate(document).sites[0].host
    assert broker._node.url.endswith(f"@{host}:5672/")
    assert broker._node.daemons()[1].environment["RABBITMQ_NODE_IP_ADDRESS"] == host


def wan(monkeypatch, looks, user=None):
    """Have the WAN run from the look number `looks` on."""
    seen = []

    def connect(_root):
        seen.append(1)
        namespace = SimpleNamespace(network="/proc/self/ns/net", user=user)
        return SimpleNamespace(namespace=lambda _site: namespace) if len(seen) >= looks else None

    monkeypatch.setattr(site_broker.Wan, "connect", connect)


def command(told, code=None):
    """Return the command that starts the cloud; it has ended if it has a code."""
    return SimpleNamespace(poll=lambda: code, send_signal=told.append)


def test_it_starts_when_the_site_has_a_network(broker, monkeypatch):
    wan(monkeypatch, looks=3)
    told = []
    monkeypatch.setattr(broker, "start", lambda: told.append(broker._network))
    broker.during_start(SimpleNamespace(root="state"), command(told))
    assert told == [signal.SIGSTOP, "/proc/self/ns/net", signal.SIGCONT], "services start when the broker answers"


def test_the_command_goes_on_if_the_broker_does_not_start(broker, monkeypatch):
    def fail():
        raise AtollError("bench.failed", "RabbitMQ ended")

    wan(monkeypatch, looks=1)
    told = []
    monkeypatch.setattr(broker, "start", fail)
    with pytest.raises(AtollError, match="RabbitMQ ended"):
        broker.during_start(SimpleNamespace(root="state"), command(told))
    assert told == [signal.SIGSTOP, signal.SIGCONT]


def test_it_does_not_wait_for_the_network_of_a_cloud_that_failed(broker, monkeypatch):
    wan(monkeypatch, looks=1000)
    monkeypatch.setattr(broker, "start", lambda: pytest.fail("there is no network"))
    broker.during_start(SimpleNamespace(root="state"), command([], code=1))


def test_an_ordinary_user_is_refused(broker, monkeypatch):
    wan(monkeypatch, looks=1, user="/proc/self/ns/user")
    with pytest.raises(AtollError, match="needs root"):
        broker.during_start(SimpleNamespace(root="state"), command([]))
