import pytest

from atoll.cli import tempest_conf as verb
from atoll.runtime import client
from atoll.tempest import resources as tempest_resources
from atoll.tempest.resources import Resources


@pytest.fixture
def lookups(monkeypatch):
    """Return the list of requested sites, each with the flag to create resources."""
    asked: list[tuple[str, bool]] = []

    class Fake:
        def __init__(self, settings, *, create, report, guest_image):
            assert guest_image is None  # the cloud's sites have no guests
            asked.append((settings.site, create))
            report("making image tempest")

        def resources(self):
            return Resources(("i1", "i2"), ("f1", "f2"), ("n1", "public"), "p1", ("router",))

    monkeypatch.setattr(tempest_resources, "Lookup", Fake)
    monkeypatch.setattr(client, "connect", lambda _root: object())
    return asked


def test_conf_is_all_that_is_printed(atoll, cloud, lookups):
    ran = atoll("tempest-conf")
    assert (ran.code, ran.err) == (0, "making image tempest\n")
    assert ran.out.startswith("# Tempest's configuration for the site paris,")
    assert "\nimage_ref = i1\n" in ran.out
    assert lookups == [("paris", True)]


def test_site_is_chosen_and_nothing_is_made(atoll, cloud, lookups):
    assert atoll("tempest-conf", "--no-create", "lyon").code == 0
    assert lookups == [("lyon", False)]


def test_site_must_run(atoll, cloud):
    ran = atoll("tempest-conf")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: paris is not running\nhint: bring it up with `atoll ")


def test_unknown_site(atoll, cloud):
    assert atoll("tempest-conf", "rome").err.startswith("error: no site is called rome")


def test_help_has_an_example(atoll):
    assert "tempest run --smoke" in atoll("tempest-conf", "--help").out
    assert verb.command.name == "tempest-conf"
