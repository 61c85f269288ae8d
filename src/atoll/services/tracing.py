"""Starts a service whose requests are recorded (`atoll.trace`): the entry of each service's process, unless tracing is off."""

from __future__ import annotations

import importlib
from pathlib import Path

from atoll.runtime.child import Child
from atoll.services.contract import Settings

LISTENERS = {
    "identity": "keystone",
    "image": "glance",
    "compute": "nova",
    "metadata": "nova",
    "network": "neutron",
    "placement": "placement",
    "gateway": "gateway",
    "peer": "gateway",
}
"""The process that listens at an endpoint."""


def run(child: Child) -> None:
    """Install the recorder and the hooks, and run the service."""
    from atoll.services import traced_calls
    from atoll.trace import hooks, process
    from atoll.trace.recorder import Identity

    settings = Settings.load(child.arguments["directory"])
    service = child.name.partition("/")[2]
    recorder = process.start(Identity(service, settings.site, settings.cloud, peers(settings)), settings.trace, Path(settings.directory))
    if recorder is not None:
        hooks.install()
        traced_calls.install(settings)
    module, _, function = child.arguments["run"].partition(":")
    try:
        getattr(importlib.import_module(module), function)(child)
    finally:
        process.stop(recorder)


def peers(settings: Settings) -> dict[str, str]:
    """Return the service that listens at each address that a process of the site may connect to."""
    return {
        f"{settings.listens_at(endpoint)}:{port}": LISTENERS[endpoint] for endpoint, port in settings.ports.items() if endpoint in LISTENERS
    }
