"""A RabbitMQ broker in the network of a site of a cell's cloud, for the site's services and its compute sites.

Atoll itself starts no RabbitMQ. The experiment runs this broker beside the cloud, as an operator would. The broker represents a service of
the site's machine, so a fault that kills the whole site kills the broker too.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from atoll.bench.failure import failed
from atoll.bench.own_cloud import Companion
from atoll.bench.standard.daemons import Daemons
from atoll.bench.standard.servers import RabbitMQ
from atoll.bench.waiting import wait_until
from atoll.cloud import Cloud
from atoll.files import write_private
from atoll.site.state import State
from atoll.wan.client import Wan
from atoll.wan.isolation import within

PORTS = (5672, 25672, 4369)
"""The ports of AMQP, of Erlang's distribution and of its port mapper; the site's network has no other listeners there."""

START_S = 600.0
"""Seconds to wait for the network of the site, and then for the broker's first answer."""


class SiteBroker(Companion):
    """A RabbitMQ in the network of a site.

    Args:
        root: the cell's own directory.
        site: the name of the site.
        document: the document of the cloud, with a topology.
        environment: the environment of the broker's processes.
    """

    def __init__(self, root: Path, site: str, document: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.site = site
        directory = root / "rabbitmq"
        directory.mkdir(mode=0o700)
        password = token_hex(16)
        self._password_file = root / "rabbitmq.password"
        write_private(self._password_file, password)
        host = next(each.host for each in Cloud.model_validate(document).sites if each.name == site)
        self._node = RabbitMQ(directory, PORTS, password, host)
        self._node.configure()
        # The broker must not end with the thread that starts it, because that may be the thread of a fault.
        self._daemons = Daemons(directory, environment, tied=False)
        self._network = ""

    @property
    def url(self) -> str:
        """The transport URL of oslo.messaging, with the password."""
        return self._node.url

    def start_in(self, network: str) -> None:
        """Start the broker in a network that exists already; `network` is the path of the namespace."""
        self._network = network
        self.start()

    def document(self, cloud: Mapping[str, Any]) -> dict[str, Any]:
        """Return the document of the cloud with the file of the broker's password."""
        sites = [dict(site) for site in cloud["sites"]]
        for site in sites:
            if site["name"] == self.site:
                site["rabbit"] = {**site["rabbit"], "password_file": str(self._password_file)}
        return {**cloud, "sites": sites}

    def during_start(self, state: State, command: subprocess.Popen[bytes]) -> None:
        """Start the broker as soon as the site has a network, and stop the command by SIGSTOP until the broker answers.

        Services are ready only once they are connected to the broker. On a busy machine, the time limit of their start would not suffice
        for the broker's start as well.
        """

        def has_network() -> bool:
            wan = Wan.connect(state.root)
            if wan is None:
                return command.poll() is not None
            namespace = wan.namespace(self.site)
            if namespace.user is not None:
                raise failed("a broker in the network of a site needs root", "run the experiment as root")
            self._network = namespace.network
            return True

        wait_until(has_network, f"{self.site} has a network", START_S)
        if not self._network:
            return  # the command that starts the cloud has failed, and its caller reports the error
        command.send_signal(signal.SIGSTOP)
        try:
            self.start()
        finally:
            command.send_signal(signal.SIGCONT)

    def start(self) -> None:
        """Start the broker, and wait until it answers.

        Raises:
            AtollError: `bench.failed`: the broker did not start.
        """
        entered = [replace(each, command=("nsenter", f"--net={self._network}", *each.command)) for each in self._node.daemons()]
        self._daemons.start(entered)
        network = os.open(self._network, os.O_RDONLY | os.O_CLOEXEC)

        def answers() -> bool:
            self._daemons.check()
            return within(network, self._node.is_up)

        try:
            wait_until(answers, f"RabbitMQ of {self.site} answers", START_S)
        finally:
            os.close(network)

    def kill(self) -> None:
        """Kill the broker, as a loss of power would."""
        for pid in self._daemons.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._daemons.stop()

    def pids(self) -> list[int]:
        """Return the ids of the broker's processes."""
        return self._daemons.pids()

    def after_destroy(self) -> None:
        """Stop the broker, which the cloud needed until its end."""
        self._daemons.stop()
