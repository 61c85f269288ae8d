"""The mechanism driver for sites without agents, with neutron-lib's real classes."""

import pytest
from upstream import inside

BIND = """
    from types import SimpleNamespace
    from neutron_lib import constants
    from neutron_lib.api.definitions import portbindings
    from atoll.services.neutron.agentless.mechanism_driver import AgentlessMechanismDriver

    driver = AgentlessMechanismDriver()
    driver.initialize()

    def bind(vnic, *types):
        calls = []
        segments = [{"id": f"segment-{index}", "network_type": kind} for index, kind in enumerate(types)]
        context = SimpleNamespace(current={portbindings.VNIC_TYPE: vnic}, segments_to_bind=segments)
        context.set_binding = lambda *args, **options: calls.append([*args, options])
        driver.bind_port(context)
        return calls

    tell({
        "geneve": bind("normal", "geneve"),
        "second": bind("normal", "gre", "vlan"),
        "direct": len(bind("direct", "flat")),
        "baremetal": bind("baremetal", "flat"),
        "gre": bind("normal", "gre"),
        "connectivity": driver.connectivity,
        "active": constants.PORT_STATUS_ACTIVE,
    })
"""


@pytest.fixture(scope="module")
def found():
    return inside(BIND)


def test_port_is_bound_and_up(found):
    assert found["geneve"] == [["segment-0", "other", {"port_filter": True}, {"status": found["active"]}]]


def test_first_segment_that_fits_is_taken(found):
    assert [call[0] for call in found["second"]] == ["segment-1"]


def test_unknown_segments_are_left_to_other_drivers(found):
    assert (found["direct"], found["baremetal"], found["gre"]) == (1, [], [])


def test_connectivity_is_told(found):
    assert found["connectivity"] == "l2"


def test_entry_point_leads_to_it():
    from importlib.metadata import entry_points

    (point,) = entry_points(group="neutron.ml2.mechanism_drivers", name="agentless")
    assert point.value == "atoll.services.neutron.agentless.mechanism_driver:AgentlessMechanismDriver"
