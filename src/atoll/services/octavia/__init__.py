"""Octavia, the load-balancing service of a site."""
