"""Patches of Keystone's middleware, tokens and policies."""
