"""The costs and losses of a message bus: the same oslo.messaging code over different transports."""
