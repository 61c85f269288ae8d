"""The name server of a network, with upstream's real driver of metadata proxies."""

import pytest
from upstream import inside

PROXY = """
    import os
    from pathlib import Path
    from types import SimpleNamespace
    from unittest import mock
    from neutron.agent.metadata import driver_base
    from neutron.agent.ovn.metadata import driver
    from neutron.common import config
    from oslo_config import cfg
    config.register_common_config_options()
    cfg.CONF([], project="neutron", default_config_files=[])
    from atoll.services.patches.neutron import metadata_proxy

    done = []
    servers = SimpleNamespace(
        open=lambda network, _namespace: done.append(f"open {network}"), close=lambda network: done.append(f"close {network}")
    )
    metadata_proxy.NAMESPACES = Path(sys.argv[2])
    whole = mock.patch.object(metadata_proxy, "within", lambda _namespace, call: done.append(f"whole {call.args[0]}"))
    spawn = mock.patch.object(
        driver_base.MetadataDriverBase, "spawn_monitored_metadata_proxy", lambda *_a, **more: done.append(f"spawn {more['network_id']}")
    )
    destroy = mock.patch.object(
        driver_base.MetadataDriverBase, "destroy_monitored_metadata_proxy", lambda _m, uuid, *_a: done.append(f"destroy {uuid}")
    )
    with mock.patch.object(metadata_proxy.resolver, "NameServers", lambda *_a: servers), whole, spawn, destroy:
        metadata_proxy.install(SimpleNamespace(datapath=sys.argv[1]))
        driver.MetadataDriver.spawn_monitored_metadata_proxy(None, "ns", 80, None, network_id="n", bind_interface="tap0")
        driver.MetadataDriver.destroy_monitored_metadata_proxy(None, "n", None, "ns")
    tell(done)
"""


@pytest.mark.parametrize(("datapath", "first"), [("system", []), ("netdev", ["whole tap0"])])
def test_a_name_server_comes_and_goes_with_the_proxy(tmp_path, datapath, first):
    (tmp_path / "ns").touch()
    assert inside(PROXY, datapath, str(tmp_path)) == [*first, "open n", "spawn n", "close n", "destroy n"]
