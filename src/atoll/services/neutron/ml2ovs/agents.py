"""Neutron's agents of a site, for Open vSwitch, routers (L3), DHCP and metadata, as threads of one process.

The module repeats `main` of neutron/cmd/agents/{l3,dhcp,metadata,ovs_neutron_agent}.py, without process managers and without a privileged
helper, because the process is root. The agents create named network namespaces in /run/netns. Resources that were brought from another
site have the same ids at both sites, and so their namespaces the same names: therefore each site has a /run/netns of its own. It belongs to
the switch, whose ports are in these namespaces. The namespaces exist as long as the switch runs, so routers work while the agents restart.
If the switch ends, this process ends too, and its next start creates everything anew.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from atoll.namespaces import CLONE_NEWNS, set_namespace
from atoll.runtime.child import Child
from atoll.services.contract import Service, Settings
from atoll.services.neutron import network_services, orphans
from atoll.services.neutron.ml2ovs import configuration
from atoll.services.neutron.ovn import layout, lifetime

NAME = "ovs-agents"

L3 = "neutron.agent.l3.agent.L3NATAgentWithStateReport"
DHCP = "neutron.agent.dhcp.agent.DhcpAgentWithStateReport"
SWITCH = "neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native.ovs_oskenapp"

POLL_S = 0.05
"""Seconds between checks of the progress of the Open vSwitch agent."""


def run(child: Child) -> None:
    """Run the agents until the process is asked to stop, or the switch ends."""
    settings = Settings.load(child.arguments["directory"])
    sys.argv[0] = NAME  # the agents name chains of iptables after this name
    _join_switch(settings)
    layout.agents_state(settings).mkdir(mode=0o700, exist_ok=True)
    configuration.dnsmasq_file(settings).write_text(configuration.DNSMASQ, encoding="ascii")
    _configure(settings)
    switches: list[Any] = []
    _start_switch_agent(switches.append)
    _await(lambda: bool(switches))
    _start_l3_agent(settings)  # started only now, because this agent creates ports on the switch's bridges
    _agent("neutron-dhcp-agent", "dhcp_agent", DHCP).start()
    _start_metadata_agent()
    _await(lambda: bool(switches[0].iter_num))  # until the Open vSwitch agent has processed all ports once
    child.ready()
    child.wait()
    orphans.kill_orphans(layout.agents_state(settings))


def _join_switch(settings: Settings) -> None:
    """Enter the mount namespace of the site's switch, and end this process when the switch ends, and with it the routers' namespaces."""
    pid = lifetime.switch(settings)
    set_namespace(f"/proc/{pid}/ns/mnt", CLONE_NEWNS)
    lifetime.end_with(pid, "the switch has ended, and with it the namespaces of routers: they are created anew")
    os.chdir(settings.directory)
    os.environ.update(layout.environment(settings))  # for the programs that agents start


def _configure(settings: Settings) -> None:
    from neutron.agent import dhcp_agent, l3_agent
    from neutron.common import cache_utils, config
    from neutron.conf import service as service_config
    from neutron.conf.agent import common as agent_config
    from neutron.conf.agent.metadata import config as metadata_config
    from oslo_config import cfg

    from atoll.services.patches.shared import privsep

    l3_agent.register_opts(cfg.CONF)
    dhcp_agent.register_options(cfg.CONF)
    metadata_config.register_meta_conf_opts(metadata_config.UNIX_DOMAIN_METADATA_PROXY_OPTS)
    metadata_config.register_meta_conf_opts(metadata_config.METADATA_PROXY_HANDLER_OPTS)
    cache_utils.register_oslo_configs(cfg.CONF)
    service_config.register_service_opts(service_config.RPC_EXTRA_OPTS, cfg.CONF)
    agent_config.register_agent_state_opts_helper(cfg.CONF)
    config.init(["--config-file", str(settings.etc / configuration.FILE)])
    config.setup_logging()
    privsep.disable_privsep_daemons()


def _await(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(POLL_S)


def _start_l3_agent(settings: Settings) -> None:
    """Start the L3 agent. It reads its extensions from the same option as the Open vSwitch agent, which must have read it before."""
    from oslo_config import cfg

    cfg.CONF.set_override("extensions", network_services.agent_extensions(settings, configuration.ROUTER_AGENT), group="agent")
    _agent("neutron-l3-agent", "l3_agent", L3).start()


def _agent(binary: str, topic: str, manager: str) -> Any:
    """Return an agent that is a service of Neutron's own kind, not yet started."""
    from neutron import service
    from oslo_config import cfg

    return service.Service.create(binary=binary, topic=topic, report_interval=cfg.CONF.AGENT.report_interval, manager=manager)


def _start_metadata_agent() -> None:
    from neutron.agent.metadata import agent
    from oslo_config import cfg

    proxy = agent.UnixDomainMetadataProxy(cfg.CONF)

    def serve() -> None:
        try:
            proxy.run()
        finally:
            lifetime.exit_now("the agent of metadata has ended")

    threading.Thread(target=serve, name="metadata", daemon=True).start()


def _start_switch_agent(started: Callable[[Any], object]) -> None:
    """Start the Open vSwitch agent, an os-ken application with threads of its own.

    Its `start` replaces the signal handlers, which are restored so that SIGTERM ends this process.

    Args:
        started: called with the agent once it has set up its bridges.
    """
    from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import main as openflow
    from neutron_lib import constants
    from neutron_lib.callbacks import events, registry
    from os_ken.base import app_manager

    def on_start(_resource: str, _event: str, agent: Any, **_more: object) -> None:
        started(agent)

    registry.subscribe(on_start, constants.AGENT_TYPE_OVS, events.AFTER_INIT)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    openflow.init_config()
    manager = app_manager.AppManager.get_instance()
    manager.load_apps([SWITCH])
    threads = manager.instantiate_apps(**manager.create_contexts())
    for each, handler in handlers.items():
        signal.signal(each, handler)
    for thread in threads:
        threading.Thread(target=_end_after, args=(thread,), daemon=True).start()


def _end_after(thread: threading.Thread) -> None:
    thread.join()
    lifetime.exit_now("the agent of the switch has ended")


SERVICE = Service(NAME, __name__, configuration.agents, listens=(), needs=("vswitchd", "neutron", "bagpipe-bgp"), forked_from="neutron")
