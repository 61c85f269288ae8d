"""Patches of Placement and its database."""
