"""Patches of several services."""
