"""Keystone, the identity service of a site."""
