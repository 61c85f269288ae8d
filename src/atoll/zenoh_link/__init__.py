"""Zenoh sessions: their configuration, TLS, and the options of their sockets, for the message bus and the mesh."""
