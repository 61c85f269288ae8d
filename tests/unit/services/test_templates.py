import re
import shutil
from importlib import metadata

from atoll.services import templates
from atoll.services.templates import template_key


def test_key_is_a_steady_name():
    assert template_key() == template_key()
    assert re.fullmatch("[0-9a-f]{16}", template_key())


def test_key_changes_with_each_maker(monkeypatch):
    keys = {template_key()}
    version = metadata.version
    for package in templates._MAKERS:
        monkeypatch.setattr(metadata, "version", lambda name, changed=package: version(name) + ("+x" if name == changed else ""))
        keys.add(template_key())
    assert len(keys) == 1 + len(templates._MAKERS)


def test_key_changes_with_the_network_services_that_are_installed(monkeypatch):
    keys = set()
    for there in ({}, {"neutron-fwaas": "25.0.0"}, {"neutron-fwaas": "25.0.1"}):
        monkeypatch.setattr(templates.network_services, "installed", lambda there=there: there)
        keys.add(template_key())
    assert len(keys) == 3


def test_key_changes_with_our_code(monkeypatch, tmp_path):
    here = tmp_path / "services"
    shutil.copytree(templates.Path(templates.__file__).parent, here, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(templates, "__file__", str(here / "templates.py"))
    before = template_key()
    (here / "nova" / "service.py").write_text((here / "nova" / "service.py").read_text() + "# more\n")
    assert template_key() != before
