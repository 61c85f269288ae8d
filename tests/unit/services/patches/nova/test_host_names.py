"""Host names that Nova's own code derives from servers' names."""

import json
import re
import tempfile

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from upstream import inside

LABEL = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?", re.ASCII)
UUID = "0dcd6de4-7d4c-4a1a-a3a8-3a6a0e8d7c55"

HOSTS = """
    from types import SimpleNamespace
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from nova import config, objects, utils
    from nova.conf import CONF
    objects.register_all()
    CONF([], project="nova", default_config_files=[])
    from nova.compute import api
    from neutron_lib.api.validators import dns

    class Instance(SimpleNamespace):
        def __contains__(self, name):
            return hasattr(self, name)

    if sys.argv[1] == "ours":
        from atoll.services.patches.nova import host_names
        host_names.install()
    found = []
    for name, count, given in json.load(open(sys.argv[2])):
        instance = Instance(uuid=sys.argv[3], display_name=name, hostname=given)
        api.API._populate_instance_names(None, instance, count, count - 1)
        found.append([instance.hostname, dns._validate_dns_format(instance.hostname.lower()) is None])
    tell(found)
"""


def hosts(*servers: tuple[str, int, str | None], kind: str = "ours") -> list[list]:
    with tempfile.NamedTemporaryFile("w") as file:
        json.dump(servers, file)
        file.flush()
        return inside(HOSTS, kind, file.name, UUID)


SPELLED = {
    "café": "cafe",
    "Ångström": "angstrom",
    "crème brûlée": "creme-brulee",
    "Łódź": "odz",
    "straße": "strae",
    "Dvořák": "dvorak",
    "Việt Nam": "viet-nam",
    "ﬁne": "fine",
    "x²": "x2",
    "Ⅷ": "viii",
    "web.example.org": "web-example-org",
    "a_b": "a-b",
    "-é-": "e",
    "ナギ web": "web",
    "web 🚀": "web",
    "123": "123",
    "a" * 70: "a" * 63,
    "é" * 255: "e" * 63,
    "a" * 62 + "-b": "a" * 62,
    "µ": f"Server-{UUID}",
    "ß": f"Server-{UUID}",
    "日本語": f"Server-{UUID}",
    "Привет": f"Server-{UUID}",
    "Ελλάδα": f"Server-{UUID}",
    "שלום": f"Server-{UUID}",
    "مرحبا": f"Server-{UUID}",
    "नमस्ते": f"Server-{UUID}",
    "สวัสดี": f"Server-{UUID}",
    "한국어": f"Server-{UUID}",
    "🚀👩‍🚀": f"Server-{UUID}",
    "...": f"Server-{UUID}",
    "_": f"Server-{UUID}",
    "\u202e\u200d": f"Server-{UUID}",
}


def test_names_of_many_scripts():
    found = hosts(*((name, 1, None) for name in SPELLED))
    assert dict(zip(SPELLED, (host for host, _taken in found), strict=True)) == SPELLED
    assert all(taken and LABEL.fullmatch(host) for host, taken in found)


def test_several_servers_of_one_request_have_labels_of_their_own():
    long = "a" * 61 + "-b"
    found = hosts(("café", 2, None), (long, 2, None), ("a" * 255, 1000, None), ("日本", 12, None))
    assert [host for host, _taken in found] == ["cafe-2", "a" * 61 + "-2", "a" * 58 + "-1000", f"Server-{UUID}"]
    assert all(taken for _host, taken in found)


def test_host_name_that_the_client_gives_stays():
    assert hosts(("café", 1, "own.example.org"), ("b", 3, "own")) == [["own.example.org", True], ["own", True]]


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255) | st.text("aé-_. ß日", min_size=1, max_size=80)


@settings(max_examples=1, deadline=None, phases=[Phase.generate])
@given(st.lists(st.tuples(NAMES, st.integers(1, 99)), min_size=300, max_size=300))
def test_any_name_gives_a_label_that_neutron_takes(servers):
    """An interpreter with Nova takes seconds to start, so each one tries many names."""
    found = hosts(*((name, count, None) for name, count in servers))
    assert [
        (name, host) for (name, _count), (host, taken) in zip(servers, found, strict=True) if not (taken and LABEL.fullmatch(host))
    ] == []


def test_upstream_still_needs_it():
    found = hosts(("café", 1, None), ("straße", 1, None), ("a" * 63, 2, None), kind="upstream")
    assert not any(taken for _host, taken in found)
