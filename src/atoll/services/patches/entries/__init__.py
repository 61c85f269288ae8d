"""Entries of the registry, by service."""
