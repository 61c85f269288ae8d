"""Placement, the inventory service of a site."""
