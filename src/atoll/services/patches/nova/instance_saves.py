"""Saves of servers that do not read or write values which the object already knows.

`Instance.save` (nova/objects/instance.py) takes six statements, and a boot saves its server six times. It writes the server's PCI requests
although they are unchanged, reads the row with its metadata and system metadata, updates it by compare-and-swap, and reads its primary key
again. This patch skips three of the six statements where they would read no new value and change none:

* The PCI requests are written only if they differ from those that this object has read or written. Upstream always writes them, and so
  replaces newer requests of another process by those that this object read before.
* The metadata are read by a statement of their own only if the server has metadata, which the statement that reads the row also reports.
* The primary key is taken from the row that the same session has read by the same UUID.

The comparison, its errors, and the values that the object has afterwards stay upstream's.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from nova.db.main import models
from nova.objects import base
from oslo_db.sqlalchemy import update_match
from sqlalchemy import inspect
from sqlalchemy.orm import configure_mappers

from atoll.services.patches.nova.accepted_deletion import Instance
from atoll.services.patches.shared.if_any_loader import LAZY

PCI_REQUESTS = "pci_requests"


class StoredInstance(Instance):
    """A server that knows which PCI requests the database has stored for it."""

    _stored: str | None = None
    pci_requests: Any
    _extra_values_to_save: dict[str, Any]

    @classmethod
    def obj_name(cls) -> str:
        """Return the name of upstream's class, under which objects are registered and sent."""
        return Instance.__name__

    def _load_pci_requests(self, *arguments: Any) -> None:
        upstream: Any = super()
        upstream._load_pci_requests(*arguments)
        self._stored = self.pci_requests.to_json()

    def _save_pci_requests(self, context: Any) -> None:
        if self.pci_requests.to_json() != self._stored:
            upstream: Any = super()
            upstream._save_pci_requests(context)

    def refresh(self, *arguments: Any, **keywords: Any) -> None:
        """Read the server again; the arguments are those of the class above."""
        upstream: Any = super()
        upstream.refresh(*arguments, **keywords)
        self._stored = self.pci_requests.to_json() if self.obj_attr_is_set(PCI_REQUESTS) and self.pci_requests else None

    def save(self, *arguments: Any, **keywords: Any) -> None:
        """Save the changes; arguments and errors are those of upstream's class."""
        try:
            super().save(*arguments, **keywords)
        except BaseException:
            self._stored = None  # the requests are written before the row, in a transaction of their own
            raise
        # A compute site's object has no such values: the conductor saves it.
        self._stored = getattr(self, "_extra_values_to_save", {}).get(PCI_REQUESTS, self._stored)


def _load_metadata_if_any() -> None:
    """Make `subqueryload` of servers' metadata, an option of each query of servers in Nova, use the strategy of `if_any_loader`."""
    configure_mappers()
    relation: Any = models.Instance.metadata.property
    relation._strategies[("lazy", "subquery"),] = relation._get_strategy((("lazy", LAZY),))


def _knowing_keys(upstream: Any) -> Any:
    """Wrap the update of a row by a surrogate key, for databases that return no primary key with it."""

    @wraps(upstream)
    def update(query: Any, mapper: Any, values: Any, surrogate_key: Any) -> Any:
        name, value = surrogate_key
        known = [
            inspect(row).identity
            for row in query.session.identity_map.values()
            if inspect(row).mapper is mapper and row.__dict__.get(name) == value
        ]
        if len(known) != 1:
            return upstream(query, mapper, values, surrogate_key)
        rows = query.filter(mapper.attrs[name].expression == value).update(values, synchronize_session=False)
        update_match._assert_single_row(rows)
        return known[0]

    return update


def install() -> None:
    """Install the three changes, for all servers that are read, received or created."""
    base.NovaObjectRegistry.register(StoredInstance)
    _load_metadata_if_any()
    update_match._pk_strategy_refetch = _knowing_keys(update_match._pk_strategy_refetch)
