"""Patches of Octavia's OVN provider."""
