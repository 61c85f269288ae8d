"""Hand-off of servers between sites: a server's disk is copied while it runs, then the server is stopped, sent and started at another site.

- `journal`: the durable states, at the source and at the destination;
- `outgoing`, `incoming`: the order of the steps, and the argument that a server runs at one site at most;
- `servers`: the requests to Nova; `files`, `worker`, `copying`: disks, states and residues;
- `peer_client`, `peer_api`: the requests between the two gateways; `api`: the requests of clients.
"""

from atoll.gateway.handoffs.api import Handoffs, concerns

__all__ = ["Handoffs", "concerns"]
