"""Keeps other saves of a server from undoing its accepted deletion.

Nova answers 204 to a deletion as soon as `task_state` is DELETING in the database. If nova-compute is killed before it has deleted the
server, it deletes the server at its next start, provided that the row still has this state. But `Instance.save` (nova/objects/instance.py)
writes all unsaved fields of the object, and most of its callers do not name an expected state. If the last save of a build is refused by
compare-and-swap, the refused `ACTIVE, None` stays in the object, and its next save writes these values. A failed build, resize or
attachment resets `task_state`, and may clear the host. docs/upstream/nova-accepted-deletion.md lists these callers.

In the registry of nova.objects, a subclass replaces `Instance`. It records whether the object belongs to a deletion: whether it was read or
received while the server was being deleted, or began the deletion. If the save of any other object would end such a task state, or clear
the host, it is made with Nova's own compare-and-swap, which expects a state other than a deletion. If that is refused, these fields are
read again instead of written, and the other fields are saved. After a refused save with an expected state, no field is left unsaved.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from nova import exception
from nova.compute import task_states, vm_states
from nova.objects import base, fields
from nova.objects.instance import Instance as Upstream
from oslo_log import log

LOG = log.getLogger(__name__)

DELETIONS = frozenset({task_states.DELETING, task_states.SOFT_DELETING})
"""Task states of a server whose deletion has been accepted."""

OTHERS = [None, *(state for state in fields.InstanceTaskState.ALL if state not in DELETIONS)]
"""Task states of all other servers."""

ENDS = frozenset({vm_states.DELETED, vm_states.SOFT_DELETED})
"""States of a server whose deletion has ended."""

STATES = ("task_state", "vm_state")
PLACE = ("host", "node", "compute_id", "launched_on", "availability_zone")
"""Fields that a failed build clears (`ComputeManager._nil_out_instance_obj_host_and_node`); without a host nobody finishes a deletion."""

OWN = "atoll.deletion"
"""The key that marks, in its serialised form, an object that belongs to a deletion."""


class Instance(Upstream):
    """Upstream's server, which preserves an accepted deletion."""

    _deletes = False
    _context: Any
    _changed_fields: set[str]

    @staticmethod
    def _from_db_object(context: Any, instance: Any, db_inst: Any, expected_attrs: Any = None) -> Any:
        instance._deletes = db_inst["task_state"] in DELETIONS
        return Upstream._from_db_object(context, instance, db_inst, expected_attrs)

    @classmethod
    def _obj_from_primitive(cls, context: Any, objver: Any, primitive: dict[str, Any]) -> Any:
        self = super()._obj_from_primitive(context, objver, primitive)
        self._deletes = bool(primitive.get(OWN)) or (self.obj_attr_is_set("task_state") and self.task_state in DELETIONS)
        return self

    def obj_to_primitive(self, *arguments: Any, **keywords: Any) -> Any:
        """Serialise the object, with a mark if it belongs to a deletion, for the conductor that saves it for a compute site."""
        primitive = super().obj_to_primitive(*arguments, **keywords)
        return {**primitive, OWN: True} if self._deletes else primitive

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = super().__deepcopy__(memo)
        copied._deletes = self._deletes
        return copied

    def save(self, expected_vm_state: Any = None, expected_task_state: Any = None, admin_state_reset: bool = False) -> None:
        """Save the changes, except those that would end a deletion which is not this object's own.

        Raises:
            InstanceUpdateConflict, InstanceNotFound: as upstream.
        """
        # A save loads others' changes; they do not make this object belong to a deletion.
        deletes = self._deletes
        begins = "task_state" in self._changed_fields and self.task_state in DELETIONS
        try:
            if admin_state_reset or not self._would_end_a_deletion(expected_task_state):
                self._save(expected_vm_state, expected_task_state, admin_state_reset)
            else:
                self._save_beside_a_deletion(expected_vm_state, expected_task_state)
            deletes = deletes or begins
        finally:
            self._deletes = deletes

    def _would_end_a_deletion(self, expected: Any) -> bool:
        changes = "task_state" in self._changed_fields
        if changes and self.task_state == task_states.SOFT_DELETING:
            return expected is None  # it would replace DELETING, and a restoration would undo it
        takes_away = "host" in self._changed_fields and self.host is None
        if not (takes_away or (changes and self.task_state not in DELETIONS)):
            return False
        if self.obj_attr_is_set("vm_state") and self.vm_state in ENDS:
            return False
        return not self._deletes if expected is None else bool(DELETIONS.intersection(_listed(expected)))

    def _save(self, expected_vm_state: Any, expected_task_state: Any, admin_state_reset: bool = False) -> None:
        try:
            super().save(expected_vm_state, expected_task_state, admin_state_reset)
        except exception.InstanceUpdateConflict:
            with suppress(exception.InstanceNotFound):
                self._forget()
            raise

    def _save_beside_a_deletion(self, expected_vm_state: Any, expected: Any) -> None:
        others = [state for state in (OTHERS if expected is None else _listed(expected)) if state not in DELETIONS]
        if self.obj_attr_is_set("task_state") and self.task_state == task_states.SOFT_DELETING:
            others.append(task_states.SOFT_DELETING)
        try:
            super().save(expected_vm_state, others)
        except exception.UnexpectedTaskStateError:
            self._forget()
            if self.task_state not in DELETIONS:
                raise
            LOG.info("The server is being deleted; a change of its task state was not saved", instance=self)
            super().save(expected_vm_state)

    def _forget(self) -> None:
        """Read the states from the database instead of saving them, and the host if it was cleared."""
        names = STATES + (PLACE if "host" in self._changed_fields and self.host is None else ())
        current = type(self).get_by_uuid(self._context, self.uuid, expected_attrs=[])
        for name in names:
            setattr(self, name, getattr(current, name))
        self._changed_fields.difference_update(names)


def _listed(expected: Any) -> list[Any]:
    return list(expected) if isinstance(expected, (list, tuple, set, frozenset)) else [expected]


def install() -> None:
    """Register the subclass, for all servers that are read, received or created."""
    base.NovaObjectRegistry.register(Instance)
