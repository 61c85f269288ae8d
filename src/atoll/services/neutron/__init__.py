"""Neutron, the network service of a site, with its data planes and its further network services."""
