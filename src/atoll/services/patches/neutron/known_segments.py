"""Segments of networks that the current transaction has read already.

After each load of a network, with its segments, ML2 asks for the segments by a statement of their own (`get_networks_segments` in
neutron/db/segments_db.py), mostly in the same transaction. With this patch, the segments are taken from the network objects in the
transaction's session. The session must hold all requested networks with their segments, and must not have written any segment: drivers add
segments by their network's id, so the collection of the network object would lack them. Otherwise upstream's function reads the segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from neutron.db import models_v2, segments_db
from neutron.db.models.segment import NetworkSegment
from neutron_lib.db import api
from sqlalchemy import event, inspect
from sqlalchemy.orm import Session, object_session

_WRITTEN = "atoll.segments-written"
"""The key of a session's `info` that marks a session which has written a segment."""


def _mark(_mapper: Any, _connection: Any, segment: Any) -> None:
    session = object_session(segment)
    if session is not None:
        session.info[_WRITTEN] = True


def _mark_bulk(written: Any) -> None:
    if written.mapper.class_ is NetworkSegment:
        written.session.info[_WRITTEN] = True


def held(session: Any, network_ids: Sequence[str]) -> list[Any] | None:
    """Return the segments of networks in the order of upstream's answer; `None` if a session does not hold all of them."""
    if _WRITTEN in session.info or any(isinstance(each, NetworkSegment) for each in (*session.new, *session.dirty, *session.deleted)):
        return None
    mapper, found = inspect(models_v2.Network), []
    for network_id in dict.fromkeys(network_ids):
        network = session.identity_map.get(mapper.identity_key_from_primary_key((network_id,)))
        if network is None or "segments" not in network.__dict__:
            return None
        found += network.segments
    return sorted(found, key=lambda segment: (segment.network_id, segment.segment_index, segment.id))


def _from_session(upstream: Callable[..., dict[str, list[Any]]]) -> Callable[..., dict[str, list[Any]]]:
    """Wrap the function that reads the segments of networks."""

    @wraps(upstream)
    def get_networks_segments(context: Any, network_ids: Sequence[str], filter_dynamic: bool | None = False) -> dict[str, list[Any]]:
        with api.CONTEXT_READER.using(context):
            known = held(context.session, network_ids)
            if known is None:
                return upstream(context, network_ids, filter_dynamic)
            answer: dict[str, list[Any]] = {network_id: [] for network_id in network_ids}
            for segment in known:
                if filter_dynamic is None or segment.is_dynamic == filter_dynamic:
                    answer[segment.network_id].append(segments_db._make_segment_dict(segment))
            return answer

    return get_networks_segments


def install() -> None:
    """Put the function in the place of upstream's, and note which sessions write segments."""
    for name in ("after_insert", "after_update", "after_delete"):
        event.listen(NetworkSegment, name, _mark)
    for name in ("after_bulk_update", "after_bulk_delete"):
        event.listen(Session, name, _mark_bulk)
    segments_db.get_networks_segments = _from_session(segments_db.get_networks_segments)
