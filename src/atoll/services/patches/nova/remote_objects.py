"""Nova's objects on a compute site, which the conductor of the control site reads and saves.

A compute site has no database. `main` of nova/cmd/compute.py sets the same two attributes, through functions that it does not export.
"""

from __future__ import annotations


def install() -> None:
    """Refuse database access in this process, and send the objects' reads and saves to the conductor."""
    from nova.conductor import rpcapi
    from nova.db.main import api
    from nova.objects.base import NovaObject

    api.DISABLE_DB_ACCESS = True
    NovaObject.indirection_api = rpcapi.ConductorAPI()
