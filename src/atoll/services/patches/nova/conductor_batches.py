"""The conductor's side of batches: performs the calls of remote objects that one message carries, in their order.

nova-compute of a compute site has no database: upstream's conductor reads and saves each of its objects with a message of its own
(`ConductorManager.object_action` and `object_class_action_versions` in nova/conductor/manager.py), one round trip each. The endpoint calls
these two methods for each action of a batch, and makes the calls of Placement that a batch contains (`placement_actions`). It ends with the
first action that fails, as nova-compute would have done.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nova.service
import oslo_messaging
from nova.conductor import manager
from nova.context import RequestContext
from opentelemetry.trace import SpanKind
from oslo_messaging._drivers import common
from oslo_serialization import jsonutils

from atoll.mesh.compute_sites import ComputeSiteList
from atoll.services.patches.nova import batch_format, placement_actions
from atoll.trace import sampling, spans


class BatchEndpoint:
    """The endpoint of the conductor that takes batches.

    Args:
        conductor: the conductor's manager, whose methods perform the actions.
        sites: the compute sites whose batches are taken.
    """

    target = oslo_messaging.Target(namespace=batch_format.NAMESPACE, version=batch_format.VERSION)

    def __init__(self, conductor: manager.ConductorManager, sites: ComputeSiteList) -> None:
        self._conductor = conductor
        self._sites = sites

    def object_actions(self, _context: RequestContext, contexts: Sequence[dict[str, Any]], actions: Sequence[str]) -> list[dict[str, str]]:
        """Perform actions one after the other.

        Args:
            contexts: the contexts of the actions, as dictionaries.
            actions: the actions, as texts of JSON; each refers to its context by its position.

        Returns:
            An answer for each action that was performed: its `result`, or its `failure` in the form of the bus. After the failure of an
            action that is not optional, no further action is performed; nor is one after results of `batch_format.ENOUGH_CHARACTERS`
            characters, and the sender sends the rest again.

        Raises:
            ValueError: there are more actions than a message may have; none was performed.
        """
        if len(actions) > batch_format.MAX_ACTIONS:
            raise ValueError(f"a batch of {len(actions)} actions; at most {batch_format.MAX_ACTIONS} may be sent in a message")
        answers: list[dict[str, str]] = []
        size = 0
        for text in actions:
            action = jsonutils.loads(text)
            answers.append(self._answer(RequestContext.from_dict(contexts[action["context"]]), action))
            size += sum(map(len, answers[-1].values()))
            if size >= batch_format.ENOUGH_CHARACTERS or ("failure" in answers[-1] and not action.get("optional")):
                break
        return answers

    def _answer(self, context: RequestContext, action: dict[str, Any]) -> dict[str, str]:
        try:
            current = sampling.sampled()
            if current is None:
                return {"result": batch_format.dump(context, self._perform(context, action))}
            with spans.span(current, action["name"], SpanKind.INTERNAL):
                return {"result": batch_format.dump(context, self._perform(context, action))}
        except oslo_messaging.ExpectedException as expected:
            return {"failure": common.serialize_remote_exception(expected.exc_info)}
        except Exception:
            return {"failure": common.serialize_remote_exception(sys.exc_info())}

    def _perform(self, context: RequestContext, action: dict[str, Any]) -> Any:
        arguments, keywords = batch_format.load(context, jsonutils.dumps([action["args"], action["kwargs"]]))
        method = action["method"]
        if "object" in action:
            one = batch_format.load(context, jsonutils.dumps(action["object"]))
            return self._conductor.object_action(context, one, method, arguments, keywords)
        if "class" in action:
            return self._conductor.object_class_action_versions(context, action["class"], method, action["versions"], arguments, keywords)
        client, host = self._conductor.compute_task_mgr.report_client, placement_actions.sender(self._sites)
        return placement_actions.perform(client, host, context, (method, arguments, keywords))


class BatchingConductor(manager.ConductorManager):
    """Upstream's conductor, which takes batches as well."""

    additional_endpoints: list[Any]
    sites: ComputeSiteList

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.additional_endpoints.append(BatchEndpoint(self, self.sites))


def install(sites: Path) -> None:
    """Have the conductor of this process take batches (`SERVICE_MANAGERS` in nova/service.py).

    Args:
        sites: the file of the control site's list of compute sites.
    """
    BatchingConductor.sites = ComputeSiteList(sites)
    nova.service.SERVICE_MANAGERS["nova-conductor"] = f"{__name__}.{BatchingConductor.__name__}"
