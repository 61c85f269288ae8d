"""`local://`: oslo.messaging inside one process, without a poll.

oslo.messaging's own `fake://` looks for a message every 50 ms (oslo_messaging/_drivers/impl_fake.py, `FakeListener.poll`), which alone
doubled the time of a boot. Here a listener waits on a condition of its exchange and wakes when a message is delivered. `fake://` also
encodes each message as JSON only to see that it can be: it stays a check of tests.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from oslo_messaging import MessageDeliveryFailure, Target
from oslo_messaging._drivers import base, impl_fake


class LocalExchange(impl_fake.FakeExchange):  # type: ignore[misc]
    """Queues by topic and server, and a condition that tells of new messages."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.delivered = threading.Condition(self._queues_lock)

    def deliver_message(  # noqa: PLR0913, PLR0917 - upstream's signature
        self, topic: str, ctxt: Any, message: Any, server: str | None = None, fanout: bool = False, reply_q: Any = None
    ) -> None:
        """Put the message into the queues of its target, and wake the listeners.

        A cast that nobody listens to is dropped: its queue would only grow.

        Raises:
            MessageDeliveryFailure: nobody listens, and the caller waits for a reply.
        """
        with self.delivered:
            if fanout or self._has_listener(topic, server):
                super().deliver_message(topic, ctxt, message, server=server, fanout=fanout, reply_q=reply_q)
                self.delivered.notify_all()
            elif reply_q is not None:
                raise MessageDeliveryFailure(f"nobody listens to topic {topic}, server {server or 'any'}")

    def _has_listener(self, topic: str, server: str | None) -> bool:
        return (topic, server) in self._server_queues if server else (topic, None) in self._topic_queues


class LocalExchangeManager(impl_fake.FakeExchangeManager):  # type: ignore[misc]
    """The exchanges of this process."""

    _exchanges_lock = threading.Lock()
    _exchanges: dict[str, LocalExchange] = {}  # noqa: RUF012 - the class attribute of the parent, not shared with it

    def get_exchange(self, name: str | None) -> LocalExchange:
        """The exchange `name`, or the default one."""
        name = name or self._default_exchange
        with self._exchanges_lock:
            if name not in self._exchanges:
                self._exchanges[name] = LocalExchange(name)
            return self._exchanges[name]


class LocalListener(impl_fake.FakeListener):  # type: ignore[misc]
    """Waits for messages to its targets, all on one exchange."""

    def __init__(self, exchange_manager: LocalExchangeManager, targets: list[Target], pool: str | None = None) -> None:
        super().__init__(exchange_manager, targets, pool)
        # Kept: the manager forgets its exchanges when a transport is cleaned up, and `stop` must find the one that `poll` waits at.
        self._exchange = exchange_manager.get_exchange(targets[0].exchange)

    @base.batch_poll_helper  # type: ignore[untyped-decorator]
    def poll(self, timeout: float | None = None) -> Any:
        """The next message.

        Args:
            timeout: how long to wait, in seconds; None: until a message comes or `stop` is called.

        Returns:
            the incoming message, or None.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._exchange.delivered:
            while not self._stopped.is_set():
                for target in self._targets:
                    context, message, reply_queue, requeue = self._exchange.poll(target, self._pool)
                    if message is not None:
                        return impl_fake.FakeIncomingMessage(context, message, reply_queue, requeue)
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return None
                self._exchange.delivered.wait(remaining)
        return None

    def stop(self) -> None:
        """Let `poll` return."""
        with self._exchange.delivered:
            self._stopped.set()
            self._exchange.delivered.notify_all()


class LocalDriver(impl_fake.FakeDriver):  # type: ignore[misc]
    """Entry point `local` of `oslo.messaging.drivers`: RPC and notifications among the threads of one process."""

    def __init__(self, conf: Any, url: Any, default_exchange: str | None = None, allowed_remote_exmods: list[str] | None = None) -> None:
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._exchange_manager = LocalExchangeManager(default_exchange)

    @staticmethod
    def _check_serialize(message: Any) -> None:
        """Messages do not leave the process."""

    def listen(self, target: Target, batch_size: int, batch_timeout: float | None) -> base.PollStyleListenerAdapter:
        """Listen to the target's server and to its topic."""
        exchange = target.exchange or self._default_exchange
        targets = [
            Target(topic=target.topic, server=target.server, exchange=exchange),
            Target(topic=target.topic, exchange=exchange),
        ]
        return base.PollStyleListenerAdapter(LocalListener(self._exchange_manager, targets), batch_size, batch_timeout)

    def listen_for_notifications(
        self, targets_and_priorities: list[tuple[Target, str]], pool: str | None, batch_size: int, batch_timeout: float | None
    ) -> base.PollStyleListenerAdapter:
        """Listen to the topics of notifications, `topic.priority`."""
        targets = [Target(topic=f"{target.topic}.{priority}", exchange=target.exchange) for target, priority in targets_and_priorities]
        return base.PollStyleListenerAdapter(LocalListener(self._exchange_manager, targets, pool), batch_size, batch_timeout)
