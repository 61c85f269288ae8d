"""The suites: Tempest's API tests, those of Neutron's plug-in against a site with packets, and scenarios with guests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.services.neutron.service import EXTENSION_DRIVERS

HERE = Path(__file__).parent
SITE = "reef"
"""The name of the tested site."""

OTHERS = ("lagoon", "shoal")
"""The names of the other sites of its cloud."""

PORTS = 10
"""Number of ports of each site."""

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Suite:
    """A set of tests, and the cloud whose first site they test.

    Attributes:
        tests: regular expressions; a test that matches one of them belongs to the suite.
        excluded: the name of the file of excluded tests.
        cloud: returns the cloud's YAML from the first of the free ports, the port of a web server with images, and the directory of the
            site's data.
        other_sites: the sites that the tested site must reach first.
        emulated: whether the site has its own network, in which Tempest runs.
    """

    tests: tuple[str, ...]
    excluded: str
    cloud: Callable[[int, int, Path], Document]
    other_sites: tuple[str, ...] = ()
    emulated: bool = True

    @property
    def exclusions(self) -> Path:
        """The path of the file of excluded tests."""
        return HERE / self.excluded


def lines(name: str) -> tuple[str, ...]:
    """Return the expressions of a file without comments."""
    found = (line.partition("#")[0].strip() for line in (HERE / name).read_text().splitlines())
    return tuple(line for line in found if line)


def api(others: tuple[str, ...] = OTHERS) -> Suite:
    """Return the suite of Tempest's API tests; the site has the optional features that they test."""

    def cloud(port: int, images: int, data: Path) -> Document:
        site = {"name": SITE, "port": port, "compute": "fake", "options": _options(port, images, data)}
        more = [{"name": name, "port": port + PORTS * number, "compute": "fake"} for number, name in enumerate(others, start=1)]
        return {"name": "tempest", "sites": [site, *more]}

    return Suite((r"^tempest\.api\.(compute|identity|image|network)\.",), "excluded.txt", cloud, others, emulated=False)


def _options(base_port: int, images_port: int, data: Path) -> Document:
    """Return the options of features that are off by default, whose tests would be skipped."""
    ports = [80, 443, images_port, base_port + 1]  # the last is the gateway, which the catalogue names
    return {
        "glance": {
            "DEFAULT": {
                # Tempest expects that a store of type http is called web.
                "enabled_backends": ["files:file", "more:file", "web:http"],
                # The last two import methods have no target or source where there is one store and one site.
                "enabled_import_methods": "[glance-direct,web-download,copy-image,glance-download]",
                "show_multiple_locations": True,
                "image_cache_dir": f"{data}/cache",
            },
            # Tempest expects the stores sorted by weight in one test, and by name in others.
            "files": {"weight": 20},
            "more": {"weight": 10, "filesystem_store_datadir": f"{data}/more"},
            "paste_deploy": {"flavor": "keystone+cachemanagement"},
            # Images come from this machine, from a web server and from Glance itself, which Glance otherwise refuses.
            "import_filtering_opts": {"allowed_hosts": "[127.0.0.1]", "allowed_ports": str(ports)},
        },
        "keystone": {"security_compliance": {"lockout_failure_attempts": 2, "lockout_duration": 5, "unique_last_password_count": 2}},
    }


def _with_packets(network: str, *services: str) -> Callable[[int, int, Path], Document]:
    # Enable two features that are off by default, so that their tests run.
    drivers = [*EXTENSION_DRIVERS, "port_trusted", "tag_ports_during_bulk_creation"]
    options = {"neutron": {"ml2": {"extension_drivers": drivers}}}
    site = {"name": SITE, "compute": "libvirt", "network": network, "network_services": list(services), "options": options}
    return lambda _port, _images, _data: {"name": "tempest", "sites": [site], "topology": {"preset": "mesh"}}


_EVERYWHERE = ("network-segment-range", "log", "firewall", "tap", "bgp", "vpn")
_PLUGINS = ("fwaas", "neutron_dynamic_routing", "tap_as_a_service", "vpnaas")


def _api_of(*plugins: str) -> tuple[str, ...]:
    parts = "|".join(rf"{plugin}\.(tests\.)?api" for plugin in plugins)
    return (rf"^neutron_tempest_plugin\.(api|{parts})\.",)


SUITES: dict[str, Callable[[], Suite]] = {
    "api": api,
    "alone": lambda: api(()),
    "ovn": lambda: Suite(_api_of(*_PLUGINS), "excluded-ovn.txt", _with_packets("ovn", *_EVERYWHERE)),
    "ovs": lambda: Suite(_api_of(*_PLUGINS, "sfc", "bgpvpn"), "excluded-ovs.txt", _with_packets("ovs", *_EVERYWHERE, "sfc", "bgpvpn")),
    "scenarios": lambda: Suite(lines("scenarios.txt"), "excluded-scenarios.txt", _with_packets("ovn")),
}
"""The suites by name."""
