"""The way into a site's message bus for its compute sites: a Zenoh router, which takes whoever shows a certificate of the cloud."""

from __future__ import annotations

from atoll.runtime.child import Child
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings


def configuration(_settings: Settings) -> dict[str, str]:
    """Nothing: the settings say it all."""
    return {}


def run(child: Child) -> None:
    """Route until the process is asked to stop."""
    from atoll.bus.router import router
    from atoll.bus.zenoh_config import Tls

    settings = Settings.load(child.arguments["directory"])
    ca, certificate, key = (str(settings.tls / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    endpoint = f"tls/{settings.host}:{settings.ports['bus']}"
    with router([endpoint], socket_dir=settings.sockets, tls=Tls(ca, certificate, key)):
        child.ready()
        child.wait()


# It uses nothing of what the services have in common, so it is forked from the root, where little is imported.
SERVICE = Service("bus", __name__, configuration, listens=(), forked_from=ROOT, opens=("bus",))
