"""Patches of Nova's services and drivers."""
