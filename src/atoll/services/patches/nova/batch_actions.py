"""One call of a remote object, as it was when it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oslo_serialization import jsonutils
from oslo_versionedobjects.base import obj_tree_get_versions

from atoll.services.patches.nova import batch_format


@dataclass(frozen=True, eq=False)
class BatchAction:
    """A call that the conductor performs.

    Attributes:
        context: the caller's context.
        name: the class and the method, for traces.
        body: the call in serialised form; later changes of the object and its arguments are not part of it.
        target: the object whose method is called; `None` for a method of a class.
        changes: the names of the object's unsaved fields.
        optional: True if the call only reads, and its failure concerns no other call.
    """

    context: Any
    name: str
    body: dict[str, Any]
    target: Any = None
    changes: frozenset[str] = frozenset()
    optional: bool = False

    @classmethod
    def of_object(cls, context: Any, target: Any, method: str, args: Any, kwargs: Any) -> BatchAction:
        """Return the action that calls a method of an object."""
        body = {"object": target, "method": method, "args": list(args), "kwargs": kwargs}
        return cls(
            context, f"{target.obj_name()}.{method}", batch_format.primitive(context, body), target, frozenset(target.obj_what_changed())
        )

    @classmethod
    def of_class(cls, context: Any, kind: str, method: str, call: tuple[Any, Any, Any], *, optional: bool = False) -> BatchAction:
        """Return the action that calls a method of a class.

        Args:
            context: the caller's context.
            kind: the name of the class.
            method: the name of the method.
            call: the versions of the classes that the caller knows, and the method's positional and keyword arguments.
            optional: True if the failure of the call concerns no other call.
        """
        versions, args, kwargs = call
        body = {"class": kind, "versions": versions, "method": method, "args": list(args), "kwargs": kwargs}
        return cls(context, f"{kind}.{method}", batch_format.primitive(context, body), optional=optional)

    @classmethod
    def ahead(cls, context: Any, kind: str, method: str, *args: Any) -> BatchAction:
        """Return the action that reads data in advance which the thread will need later."""
        return cls.of_class(context, kind, method, (obj_tree_get_versions(kind), args, {}), optional=True)

    @classmethod
    def of_placement(cls, context: Any, method: str, *args: Any, optional: bool = False, **kwargs: Any) -> BatchAction:
        """Return the action that calls a method of Nova's client of Placement."""
        return cls(context, f"Placement.{method}", {"method": method, "args": list(args), "kwargs": kwargs}, optional=optional)

    @property
    def key(self) -> str:
        """A text that is equal for equal calls; it begins with the name."""
        return f"{self.name} {jsonutils.dumps([self.body['args'], self.body['kwargs']])}"

    def creates(self, target: Any) -> bool:
        """Return whether the call creates an object, so that other calls of the object need its result."""
        return self.target is target and self.body["method"] == "create"

    def text(self, context: int) -> str:
        """Return the call as the conductor takes it.

        Args:
            context: the position of the call's context among those of the batch.
        """
        return str(jsonutils.dumps({**self.body, "name": f"object_action {self.name}", "context": context, "optional": self.optional}))

    def alone(self, api: Any) -> Any:
        """Make the call with a message of its own.

        Args:
            api: upstream's client of the conductor.
        """
        body = batch_format.load(self.context, jsonutils.dumps(self.body))
        if "object" in body:
            return api.object_action(self.context, body["object"], body["method"], body["args"], body["kwargs"])
        if "class" in body:
            return api.object_class_action_versions(
                self.context, body["class"], body["method"], body["versions"], body["args"], body["kwargs"]
            )
        from atoll.services.patches.nova.batched_claims import BatchedClient

        return BatchedClient.alone(self.context, body["method"], *body["args"], **body["kwargs"])
