"""Changes of a server that were accepted before a cell had the server.

While a server is being scheduled, a change of its name, description or host name is saved in its build request (`API.update_instance` in
nova/compute/api.py), and answered 200. The conductor makes the server from the copy of the request that it was sent, in a cell or, if no
host was found, in cell0, and deletes the request. A change in between is lost; a comment of upstream's beside the code says so.

The subclass deletes a build request only if it has never been changed. Otherwise it reads the request, saves the changes to the server, and
deletes the request only if it is still as it was read. If the conductor is killed before that, the request is still there.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from nova import exception
from nova.conductor import manager
from nova.db.api import api, models
from nova.objects import build_request, cell_mapping

from atoll.services.patches.nova.failed_builds import ReleasingManager

CHANGEABLE = ("display_name", "display_description", "hostname")
"""The fields of a server that a request can change while it is being scheduled (nova/api/openstack/compute/servers.py, `update`)."""


class CarryingManager(ReleasingManager):
    """The conductor's manager, which carries changes of a build request over to the server."""

    def _delete_build_request(self, context: Any, request: Any, instance: Any, cell: Any, *others: Any) -> bool:
        if _carry_over(context, request, instance, cell):
            return True
        return bool(super()._delete_build_request(context, request, instance, cell, *others))

    def _bury_in_cell0(self, context: Any, request_spec: Any, exc: Any, build_requests: Any = None, **others: Any) -> None:
        made = {instance.uuid: instance for instance in others.get("instances") or ()}
        carried = [_BuriedRequest(context, request, made.get(request.instance_uuid)) for request in build_requests or ()]
        super()._bury_in_cell0(context, request_spec, exc, build_requests=carried, **others)


class _BuriedRequest:
    """A build request of a server that goes to cell0, with the part of upstream's interface that burying uses.

    Args:
        context: the context of the request.
        request: upstream's object, as the conductor has received it.
        instance: the server, if it was made from the request before.
    """

    def __init__(self, context: Any, request: Any, instance: Any) -> None:
        self._context = context
        self._request = request
        self._instance = instance
        self.instance_uuid = request.instance_uuid

    def get_new_instance(self, context: Any) -> Any:
        """Return the server that is to be buried."""
        self._instance = self._request.get_new_instance(context)
        return self._instance

    def destroy(self) -> None:
        """Save the changes of the request to the buried server, and delete the request.

        Raises:
            BuildRequestNotFound: the request is deleted already.
        """
        cell0 = cell_mapping.CellMapping.get_by_uuid(self._context, cell_mapping.CellMapping.CELL0_UUID)
        if not _carry_over(self._context, self._request, self._instance, cell0):
            self._request.destroy()


def _carry_over(context: Any, request: Any, instance: Any, cell: Any) -> bool:
    """Save the changes of a build request to the server that was made from it, and delete the request.

    Args:
        context: the context of the request.
        request: the build request from which the server was made.
        instance: the server.
        cell: the server's cell.

    Returns:
        False if the build request is deleted already.
    """
    if _delete_unchanged(context, instance.uuid):
        return True
    while (row := _read(context, instance.uuid)) is not None:
        latest = build_request.BuildRequest._from_db_object(context, build_request.BuildRequest(), row)
        # Upstream buries no server that a cell already has; then the request is deleted, and no change is carried over.
        with suppress(exception.InstanceNotFound), manager.obj_target_cell(instance, cell):
            _carry(request.instance, latest.instance, instance)
        if _delete_as_read(context, instance.uuid, row["instance"]):
            return True
        request = latest
    return False


def _carry(before: Any, after: Any, instance: Any) -> None:
    changes = {name: getattr(after, name) for name in CHANGEABLE if getattr(after, name) != getattr(before, name)}
    if changes:
        instance.update(changes)
        instance.save()


def _read(context: Any, uuid: str) -> dict[str, Any] | None:
    """Return a build request as a row of the database; `None` if it is deleted."""
    with api.context_manager.reader.using(context) as session:
        row = session.query(models.BuildRequest).filter_by(instance_uuid=uuid).first()
        return None if row is None else dict(row)


def _delete_unchanged(context: Any, uuid: str) -> bool:
    """Delete a build request that nobody has changed since it was made; return whether it is deleted."""
    with api.context_manager.writer.using(context) as session:
        query = session.query(models.BuildRequest).filter_by(instance_uuid=uuid, updated_at=None)
        return bool(query.delete(synchronize_session=False))


def _delete_as_read(context: Any, uuid: str, seen: str) -> bool:
    """Delete a build request unless its server has changed since it was read; return whether it is deleted."""
    with api.context_manager.writer.using(context) as session:
        query = session.query(models.BuildRequest).filter_by(instance_uuid=uuid)
        row = query.with_for_update().first()
        if row is None or row.instance != seen:
            return False
        return bool(query.filter(models.BuildRequest.instance == seen).delete(synchronize_session=False))


def install() -> None:
    """Have the conductor use `CarryingManager` (`ConductorManager.__init__` in nova/conductor/manager.py)."""
    manager.ComputeTaskManager = CarryingManager
