"""What the driver raises beyond oslo.messaging's own exceptions."""

from __future__ import annotations

from oslo_messaging import MessageDeliveryFailure, MessagingTimeout


class NobodyListens(MessageDeliveryFailure, MessagingTimeout):  # type: ignore[misc]
    """No server listens to the target: nothing was sent.

    Also a `MessagingTimeout`: with a broker a call that nobody hears ends in one, so that is what services, and oslo.messaging's own
    tests, expect of it.
    """


class Unreachable(NobodyListens):
    """None of the routers that the URL names answers, and this process has not been on the bus yet: nothing was sent."""


class ServerLost(MessagingTimeout):  # type: ignore[misc]
    """A server vanished while it had the message: it may have been executed, wholly, in part or not at all.

    A `MessagingTimeout`, because that is what services expect, and handle, when a server dies under a call; it comes sooner.
    """
