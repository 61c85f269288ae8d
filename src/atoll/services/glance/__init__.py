"""Glance, the image service of a site."""
