"""Patches of Neutron, its agents and its network services."""
