"""Replication of Keystone's data: which tables, how changes are captured, and how they are applied at the other sites."""
