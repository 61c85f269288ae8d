"""The oslo.messaging driver `zenoh`: the methods that `oslo_messaging` calls, built from the parts of this package."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from oslo_messaging import InvalidTransportURL, MessageDeliveryFailure, Target
from oslo_messaging._drivers import base
from oslo_messaging._drivers import common as rpc_common

from atoll.bus import options, payload
from atoll.bus.address import Address
from atoll.bus.delivery import Deadline, Delivery, WaitingTimes
from atoll.bus.directory import Topic
from atoll.bus.errors import NobodyListens, Unreachable
from atoll.bus.fanout import Fanout
from atoll.bus.frames import Reply
from atoll.bus.listener import Mailbox, NotificationListener, RpcListener, Subject
from atoll.bus.node import NODES, Node, NodeSettings
from atoll.bus.outbox import Outbox
from atoll.zenoh_link.config import Tls

LOG = logging.getLogger(__name__)


class ZenohDriver(base.BaseDriver):
    """The entry point `zenoh` of `oslo.messaging.drivers`: RPC and notifications over Zenoh, without a broker."""

    def __init__(self, conf: Any, url: Any, default_exchange: str | None = None, allowed_remote_exmods: list[str] | None = None) -> None:
        """Read the URL and the options; nothing is opened yet.

        Raises:
            InvalidTransportURL: the URL or an option has a value that is not supported.
        """
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._options = options.register(conf)
        self._settings = _settings(url, self._options)
        self._nearest = self._options.selection == "nearest"
        self._patience = WaitingTimes(
            default_retries=self._options.default_retries,
            retry_interval_s=self._options.retry_interval,
            question_interval_s=self._options.question_interval,
            lost_server_s=self._options.lost_server_timeout,
        )
        self._joined: Node | None = None
        self._outbox: Outbox | None = None
        # Kept, because dropping a session closes it.
        self._outboxes_of_parents: list[Outbox] = []

    @property
    def _node(self) -> Node:
        """This process's node, which joins the bus at its first use, and again after a fork."""
        node = self._joined
        if node is not None and not node.is_of_parent:
            return node
        asked_at = time.monotonic()
        with NODES.joining:
            if self._joined is None or self._joined.is_of_parent:
                self._joined = NODES.acquire(self._settings, asked_at)
            return self._joined

    def _join(self, retry: int | None, timeout_s: float | None = None) -> Node:
        """Return the node. While no router answers, try again as often and as long as for a message that has no listener.

        Raises:
            Unreachable: the attempts are used up, or the time is over.
        """
        retries = self._patience.default_retries if retry is None else retry
        deadline, tries = Deadline(timeout_s), 0
        while True:
            try:
                return self._node
            except Unreachable as error:
                if deadline.is_over or 0 <= retries <= tries:
                    raise
                if tries == 0:
                    LOG.warning("%s; trying again", error)
            tries += 1
            time.sleep(deadline.left_s(self._patience.retry_interval_s))

    def require_features(self, requeue: bool = False) -> None:
        """Accept every feature; all are supported."""

    # RPC

    def send(  # noqa: PLR0913, PLR0917 - upstream's signature
        self,
        target: Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: int | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        """Send a message and wait until it is acknowledged or, with `wait_for_reply`, replied to.

        With a broker, server S of topic T consumes the queue T.S, and so does a server that listens to a topic named T.S. Neutron's agents
        listen to such a topic, and rely on messages for server S of T. So this listener gets the message if topic T has no server S.

        Raises:
            MessageDeliveryFailure, MessagingTimeout, ServerLost: see `Delivery.run`.
            Exception: the exception of the remote method.
        """
        exchange = self._exchange(target)
        begun = time.monotonic()
        node = self._join(retry, timeout)
        topic = node.directory.topic("rpc", exchange, target.topic)
        body = payload.encode([ctxt, message])
        if target.fanout:
            Fanout(node, topic, node.keys.fanout(exchange, target.topic), body, self._patience, _describe(target)).send()
            return None
        reply = Delivery(
            node,
            topic,
            body,
            self._patience,
            to=_describe(target),
            server=target.server,
            alias=_alias(node, exchange, target, topic),
            nearest=self._nearest,
            retry=retry,
            timeout_s=None if timeout is None else max(0.0, timeout - (time.monotonic() - begun)),
            monitor_s=call_monitor_timeout,
            wants_reply=bool(wait_for_reply),
        ).run()
        return self._read(reply) if wait_for_reply and reply is not None else None

    def _read(self, reply: Reply) -> Any:
        if reply.failed:
            raise rpc_common.deserialize_remote_exception(reply.body.decode(), self._allowed_remote_exmods)
        return payload.decode(reply.body)

    def listen(self, target: Target, batch_size: int, batch_timeout: float | None) -> RpcListener:
        """Listen to a target's topic: to messages for any of its servers, for this one, and for all."""
        listener = RpcListener(batch_size, batch_timeout)
        listener.mailbox = self._mailbox([Subject("rpc", self._exchange(target), target.topic, target.server)], listener.deliver)
        return listener

    # Notifications

    def send_notification(
        self, target: Target, ctxt: dict[str, Any], message: dict[str, Any], version: float, retry: int | None = None
    ) -> None:
        """Send a notification to one listener of each pool; while nobody listens, store it in the outbox.

        Raises:
            MessageDeliveryFailure: nobody listens, and there is no outbox or it can't be written.
        """
        exchange, body, outbox = self._exchange(target), payload.encode([ctxt, message]), self._open_outbox()
        if outbox is None:
            self._forward(exchange, target.topic, body, retry)
        elif outbox.has(exchange, target.topic):
            outbox.put(exchange, target.topic, body)
        else:
            try:
                self._forward(exchange, target.topic, body)
            except NobodyListens:
                outbox.put(exchange, target.topic, body)

    def _forward(self, exchange: str, topic: str, body: bytes, retry: int | None = 0) -> None:
        """Pass a notification to one listener of each pool; if one pool has taken it, log the failures of other pools.

        Raises:
            NobodyListens: there is no listener; nothing was sent.
            MessageDeliveryFailure: the only listener vanished before it acknowledged.
        """
        node = self._join(retry)
        listeners = node.directory.topic("notify", exchange, topic)
        failures: list[MessageDeliveryFailure] = []
        pools: list[str | None] = [*listeners.names()] or [None]
        for pool in pools:
            try:
                Delivery(node, listeners, body, self._patience, to=f"notifications {topic}", server=pool, retry=retry).run()
            except MessageDeliveryFailure as failure:
                failures.append(failure)
        if len(failures) == len(pools):
            raise failures[0]
        for error in failures:
            LOG.warning("one pool did not get a notification: %s", error)

    def listen_for_notifications(
        self, targets_and_priorities: list[tuple[Target, str]], pool: str | None, batch_size: int, batch_timeout: float | None
    ) -> base.PollStyleListenerAdapter:
        """Listen to notification topics, `topic.priority`; one of the listeners in a pool gets each notification.

        Args:
            targets_and_priorities: the topics.
            pool: the name of the pool; `None` for the unnamed one.
            batch_size: the greatest number of notifications that are handed out together.
            batch_timeout: the seconds that a batch may take to fill; `None` for no limit.
        """
        subjects = [
            Subject("notify", self._exchange(target), f"{target.topic}.{level}", pool or "") for target, level in targets_and_priorities
        ]
        listener = NotificationListener()
        listener.mailbox = self._mailbox(subjects, listener.deliver)
        return _OpeningAdapter(listener, batch_size, batch_timeout)

    def _open_outbox(self) -> Outbox | None:
        directory = options.directory(self._options.outbox_dir, options.default_outbox_dir())
        if directory is None:
            return None
        with NODES.joining:
            if self._outbox is None or self._outbox.is_of_parent:
                if self._outbox is not None:
                    self._outboxes_of_parents.append(self._outbox)
                most = self._options.outbox_size_mb * 1024 * 1024
                self._outbox = Outbox(directory, self._settings.address.vhost, most, self._forward, durable=self._options.durable)
            return self._outbox

    # Both

    def _exchange(self, target: Target) -> str:
        return target.exchange or self._default_exchange or ""

    def _mailbox(self, subjects: list[Subject], deliver: Any) -> Mailbox:
        return Mailbox(
            self._join(retry=-1),
            subjects,
            deliver,
            seen_per_sender=self._options.seen_per_sender,
            journal_dir=Path(self._options.journal_dir) if self._options.journal_dir else None,
            durable=self._options.durable,
        )

    def cleanup(self) -> None:
        """Leave the bus, unless another transport of this process uses it."""
        if self._outbox is not None and not self._outbox.is_of_parent:
            self._outbox.close()
            self._outbox = None
        if self._joined is not None:
            NODES.release(self._joined)
            self._joined = None


class _OpeningAdapter(base.PollStyleListenerAdapter):
    """An adapter that opens the mailbox when the server starts; upstream's has no hook for it."""

    def start(self, on_incoming_callback: Any) -> None:
        super().start(on_incoming_callback)
        self._poll_style_listener.mailbox.open()


def _describe(target: Target) -> str:
    return f"topic {target.topic}" + (f", server {target.server}" if target.server else "")


def _alias(node: Node, exchange: str, target: Target, topic: Topic) -> Topic | None:
    """Return the topic `TOPIC.SERVER`, named like a broker's queue for the target, if no server of the target's own name listens."""
    if target.server is None or topic.named(target.server):
        return None
    return node.directory.topic("rpc", exchange, f"{target.topic}.{target.server}")


def _settings(url: Any, chosen: Any) -> NodeSettings:
    """Return the node's settings, from the URL and the options."""
    address = Address.from_url(url)
    tls = None
    if chosen.tls or chosen.tls_ca_file or chosen.tls_cert_file or chosen.tls_key_file:
        tls = Tls(chosen.tls_ca_file, chosen.tls_cert_file, chosen.tls_key_file, chosen.tls_verify_name)
        try:
            tls.check()
        except ValueError as error:
            raise InvalidTransportURL(str(url), f"[{options.GROUP}]: {error}") from None
    return NodeSettings(
        address=address,
        socket_dir=options.directory(chosen.socket_dir, options.default_socket_dir()),
        mode=chosen.mode,
        listen=tuple(chosen.listen),
        tls=tls,
        connect_by_tls=chosen.tls,
        multicast=chosen.multicast_scouting,
        lease_s=chosen.lease,
        realm=chosen.realm,
    )
