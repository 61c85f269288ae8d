"""Exceptions of the driver beyond those of oslo.messaging."""

from __future__ import annotations

from oslo_messaging import MessageDeliveryFailure, MessagingTimeout


class NobodyListens(MessageDeliveryFailure, MessagingTimeout):
    """No server listens to the target: nothing was sent.

    This is also a `MessagingTimeout`: with a broker, a call without a listener times out, and services and oslo.messaging's tests expect
    that.
    """


class Unreachable(NobodyListens):
    """No router of the URL answers, and this process has not joined the bus yet: nothing was sent."""


class ServerLost(MessagingTimeout):
    """A server vanished while it had the message, which may have been executed wholly, in part or not at all.

    This is also a `MessagingTimeout`, which services expect and handle when a server dies during a call. `ServerLost` is raised earlier.
    """
