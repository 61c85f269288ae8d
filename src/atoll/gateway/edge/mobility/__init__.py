"""ETSI MEC 021, the application mobility service: registrations of instances, and notifications of hand-offs.

- `registrations`: an instance's registration, which is kept in its server's metadata;
- `subscriptions`: the subscriptions of projects, in a file of the gateway;
- `events`: changes of hand-offs, sent to the gateways of all sites, and queued for subscriptions;
- `sockets`: the WebSockets over which clients receive notifications;
- `api`: the requests of clients.
"""

from atoll.gateway.edge.mobility.events import MobilityEvent, Status
from atoll.gateway.edge.mobility.registrations import Consent, after_move, consent

__all__ = ["Consent", "MobilityEvent", "Status", "after_move", "consent"]
