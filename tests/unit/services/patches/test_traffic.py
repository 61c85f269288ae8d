"""A site with `traffic: stock` installs none of the patches that reduce control traffic, and all others."""

from __future__ import annotations

import json

import pytest
from upstream import inside

from atoll.services.patches.registry import PATCHES

PATCHED = sorted({patch.module for patch in PATCHES if patch.traffic and ".nova." in patch.module})
BATCHES = [f"atoll.services.patches.nova.{name}" for name in ("batched_claims", "batches", "batching_manager", "network_reads")]
CONDUCTOR = ["atoll.services.patches.nova.conductor_batches"]
PARTS = ["atoll.services.patches.nova.node_reports"]
"""Modules that another one installs."""
ALONE = [f"atoll.services.patches.nova.{name}" for name in ("service_versions", "kept_rows", "system_metadata")]
"""Modules for a database that only this process writes, or for SQLite."""
DATABASE = [
    *(f"atoll.services.patches.nova.{name}" for name in ("instance_saves", "row_writes", "action_records", "quota_limits")),
    *ALONE,
]
NOVA = [module for module in PATCHED if module not in {*BATCHES, *CONDUCTOR, *PARTS, *DATABASE}]
OTHERS = [f"atoll.services.patches.nova.{name}" for name in ("accepted_deletion", "console_log", "recovering_manager", "fake_hypervisor")]

INSTALL = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from importlib import import_module
    from pathlib import Path
    from types import SimpleNamespace
    from unittest import mock
    from atoll.services.nova import compute_site, service

    called = []
    for name in json.loads(sys.argv[2]):
        mock.patch.object(import_module(name), "install", side_effect=lambda *_, name=name: called.append(name)).start()
    settings = SimpleNamespace(
        reduces_traffic=sys.argv[1] == "reduced", hypervisor="fake", directory=Path("/site"), database=lambda _name: sys.argv[3])
    service.install_hypervisor(settings)
    site, called = called, []
    compute_site.install_batches(settings)
    edge, called = called, []
    service.install_conductor(settings)
    conductor, called = called, []
    service.install_database(settings)
    tell([site, edge, conductor, called])
"""


def installed(traffic, database="sqlite:///x"):
    failed_builds = "atoll.services.patches.nova.failed_builds"
    return inside(INSTALL, traffic, json.dumps([*NOVA, *BATCHES, *CONDUCTOR, *OTHERS, *DATABASE, failed_builds]), database)


@pytest.mark.parametrize("traffic", ["reduced", "stock"])
def test_stock_leaves_out_what_reduces_traffic(traffic):
    site, edge, conductor, database = installed(traffic)
    assert len(NOVA) >= 5
    assert set(site) == {*OTHERS, *(NOVA if traffic == "reduced" else ())}
    assert edge == (BATCHES if traffic == "reduced" else [])
    assert conductor == ["atoll.services.patches.nova.failed_builds", *(CONDUCTOR if traffic == "reduced" else ())]
    assert database == (DATABASE if traffic == "reduced" else [])


def test_rows_are_kept_only_where_no_other_process_writes_them():
    *_, database = installed("reduced", "postgresql+psycopg://server/nova_cell1")
    assert database == [name for name in DATABASE if name not in ALONE]


KEEPERS = """
    from importlib import import_module
    from types import SimpleNamespace
    from unittest import mock

    name, url, modules = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if name == "neutron":
        import neutron.db.migration.models.head
    called = []
    for each in modules:
        module = import_module(f"atoll.services.patches.{name}.{each}")
        mock.patch.object(module, "install", side_effect=lambda each=each: called.append(each)).start()
    settings = SimpleNamespace(database=lambda _name: url, network="ovs")
    service = import_module(f"atoll.services.{name}.service")
    service._reduce_statements(settings)
    tell(called)
"""

KEPT = {
    "neutron": (
        *("empty_relations", "joined_relations", "known_segments", "subnet_revisions", "default_group_lookup", "port_details"),
        *("quota_reservations", "kept_rows"),
    ),
    "placement": ("ended_consumers", "attribute_caches", "kept_providers"),
}
"""Modules of each service in the order of their installation; those that keep rows are the last two."""


@pytest.mark.parametrize("service", KEPT)
def test_neutron_and_placement_keep_rows_only_with_sqlite(service):
    modules = list(KEPT[service])
    assert inside(KEEPERS, service, "sqlite:///x", json.dumps(modules)) == modules
    assert inside(KEEPERS, service, "postgresql+psycopg://server/x", json.dumps(modules)) == modules[:-2]
