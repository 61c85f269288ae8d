"""Octavia's OVN provider agent without a lock on OVN's databases.

Several such agents would share the events of OVN: each asks both databases for a lock, and the one that holds it works
(`OvnProviderAgent` in ovn_octavia_provider/agent.py). A site has one agent, and one server for both databases: the agent's two
connections would exclude each other. With no name for the lock, none is requested.
"""

from __future__ import annotations


def install() -> None:
    """Have the agent of this process request no lock."""
    from ovn_octavia_provider import agent

    agent.OVN_EVENT_LOCK_NAME = None
