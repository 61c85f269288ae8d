"""Patches of Placement."""
