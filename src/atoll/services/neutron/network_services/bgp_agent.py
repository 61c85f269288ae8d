"""Neutron's BGP agent of a site, which announces Neutron's routes to external routers and learns none.

The module repeats `main` of neutron_dynamic_routing/services/bgp/agent/entry.py.
"""

from __future__ import annotations

from atoll.runtime.child import Child
from atoll.services import common
from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections, render

FILE = "neutron/bgp_agent.conf"


def configuration(settings: Settings) -> dict[str, str]:
    """Render the configuration file of the BGP agent."""
    driver = "neutron_dynamic_routing.services.bgp.agent.driver.os_ken.driver.OsKenBgpDriver"
    sections: Sections = {
        "DEFAULT": {"host": settings.site, "state_path": str(settings.data)},
        "bgp": {"bgp_speaker_driver": driver, "bgp_router_id": settings.own_address},
    }
    return {FILE: render(common.logging(settings), common.bus(settings), sections)}


def run(child: Child) -> None:
    """Speak BGP until the process is asked to stop."""
    from neutron import service
    from neutron.common import config as common_config
    from neutron.conf.agent import common as agent_config
    from neutron_dynamic_routing.services.bgp.agent import entry
    from neutron_dynamic_routing.services.bgp.common import constants
    from oslo_config import cfg

    settings = Settings.load(child.arguments["directory"])
    entry.register_options()
    common_config.register_common_config_options()
    common_config.init(["--config-file", str(settings.etc / FILE)])
    agent_config.setup_logging()
    agent = service.Service.create(
        binary="neutron-bgp-dragent",
        topic=constants.BGP_DRAGENT,
        report_interval=cfg.CONF.AGENT.report_interval,
        manager="neutron_dynamic_routing.services.bgp.agent.bgp_dragent.BgpDrAgentWithStateReport",
    )
    agent.start()
    child.ready()
    child.wait()
    agent.stop()


SERVICE = Service("bgp-agent", __name__, configuration, listens=(), needs=("neutron",), forked_from="neutron")
