"""Patches of Glance and its store."""
